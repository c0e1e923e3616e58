"""Where Sentinel thinks one is, hop by hop, before enforcement is switched on; and which versions run.

Where it stands in the walk: what the console's own connection showed, derived by the admin API as gateways do it
(``POST address``).
"""

import asyncio
from importlib.metadata import version as version_of
from typing import Final

from admin_api.schemas.gateways import Gateways
from admin_api.schemas.impact import AddressDerived, AddressSeen
from admin_api.schemas.settings import SettingsState
from console.view import View
from console.widgets import states
from console.widgets.basics import badge, icon, link, tag

PACKAGE: Final = "key-ip-sentinel"
HEADER_MAX: Final = 128


async def about(view: View) -> None:
    t = view.t
    request = view.request
    peer = request.client.host if request.client else ""
    real_ip = [value[:HEADER_MAX] for value in request.headers.getlist("x-real-ip")[:16]]
    derived, state, gateways = await asyncio.gather(
        view.api.post("/address", AddressSeen(peer[:64], real_ip), AddressDerived),
        view.api.get("/settings", SettingsState),
        view.api.get("/gateways", Gateways),
    )
    with tag("div", "page-head"), tag("div"):
        tag("h1", text=t("nav.about"))
        tag("p", "lead", t("about.lead"))
    with tag("section", "card stack"):
        tag("h2", text=t("about.seen"))
        _hops(view, peer, real_ip, derived)
        _verdict(view, peer, derived)
    with tag("section", "card stack"):
        tag("h2", text=t("about.next"))
        with tag("ol", "steps"):
            _step(view, t("about.step.address"), done=derived.address is not None)
            _step(view, t("about.step.gateway"), done=any(each.alive for each in gateways.items))
            _step(view, t("about.step.mode"), done=state.values.mode.value == "enforce")
        with tag("div", "row-flex"):
            link(view.href("/settings"), t("about.to_settings"), "btn small")
    with tag("section", "card"), tag("dl", "facts"):
        tag("dt", text=t("about.console"))
        tag("dd", "mono", version_of(PACKAGE))
        tag("dt", text=t("dashboard.gateways"))
        found = sorted({version for each in gateways.items for version in each.versions})
        tag("dd", "mono", ", ".join(found) or "\N{EN DASH}")
        tag("dt", text=t("about.break_glass"))
        tag("dd", "mono", "sentinel user reset-password NAME")


def _hops(view: View, peer: str, real_ip: list[str], derived: AddressDerived) -> None:
    """Browser, what stood between, Sentinel: each with what is known of it."""
    t = view.t
    with tag("ol", "hops"):
        with tag("li"):
            icon("computer")
            tag("b", text=t("about.hop.browser"))
            tag("span", "mono", derived.address or t("dashboard.unknown"))
        if derived.trusted or real_ip:
            with tag("li"):
                icon("dns")
                tag("b", text=t("about.hop.proxy"))
                tag("span", "mono", peer)
                badge(
                    t("about.trusted" if derived.trusted else "about.untrusted"), "good" if derived.trusted else "warn"
                )
                tag("span", "muted", t("about.hop.header"))
                tag("span", "mono", ", ".join(real_ip) or "\N{EN DASH}")
        with tag("li"):
            icon("shield")
            tag("b", text=t("about.hop.sentinel"))
            tag("span", "muted", t("about.hop.trusts"))
            tag("span", "mono", ", ".join(derived.trusted_proxies) or t("about.hop.nobody"))


def _verdict(view: View, peer: str, derived: AddressDerived) -> None:
    t = view.t
    if derived.address is None:
        code = derived.code or ""
        states.notice(t("about.refused", reason=t.known(f"reason.{code}", code), detail=derived.detail), "bad", "error")
        return
    via = t("about.via", peer=peer) if derived.trusted else t("about.direct")
    states.notice(t("about.is_right", address=derived.address, via=via), "", "help")
    tag("p", "muted", t("about.if_wrong"))


def _step(view: View, text: str, *, done: bool) -> None:
    with tag("li"):
        badge(view.t("about.done" if done else "about.to_do"), "good" if done else "warn")
        tag("span", text=text)
