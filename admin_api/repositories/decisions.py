"""What would happen to a request: the data plane's own verdict on what PostgreSQL holds now.

Where it stands in the walk: `POST decide` asks it. It judges with `proxy_core.verdict` and nothing of its own, so that
it cannot answer otherwise than a gateway would.
"""

import time
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api import keys
from admin_api.errors import InvalidInput, NotFound
from admin_api.repositories import bindings as repository
from admin_api.schemas.bindings import NETWORKS_IN_LISTS, BindingMode, BindingView, Decide, Decided, Decision
from proxy_core import verdict
from proxy_core.client_ip import parse_address
from proxy_core.contracts import Action, Binding, ClientAddress, LiveSettings, Mode, Reason
from proxy_core.credentials import Credentials

INVALID_KEY = Decision("refuse", Reason.INVALID_API_KEY.value, 401)


async def decide(session: AsyncSession, credentials: Credentials, initial: LiveSettings, asked: Decide) -> Decided:
    """``initial`` as `live_settings` takes it. Raises InvalidInput, and NotFound for a binding that is not there."""
    address = parse_address(asked.address.strip().encode("utf-8", "replace"))
    if address is None:
        raise InvalidInput("the address is none", faults=[{"field": "address", "detail": "one IPv4 or IPv6 address"}])
    live = await live_settings(session, initial)
    if (asked.key is None) == (asked.binding_id is None):
        fault = {"field": "key", "detail": "send either key or binding_id"}
        raise InvalidInput("it takes a key or a binding", faults=[fault])
    hint, view = None, None
    if asked.key is not None:
        try:
            identity = keys.identify(credentials, asked.key)
        except InvalidInput:
            in_force = BindingMode(live.mode.value)
            return Decided(address.text, None, None, None, in_force, INVALID_KEY, INVALID_KEY)
        hint = identity.hint
        view = (await repository.find_keys(session, [identity.fingerprint])).get(identity.fingerprint.hex())
    elif asked.binding_id is not None:
        view = await repository.find(session, asked.binding_id)
        if view is None:
            raise NotFound("there is no binding with this id (any more)")
    return _decided(view, hint, address, live, asked.method.upper())


async def live_settings(session: AsyncSession, initial: LiveSettings) -> LiveSettings:
    """What is stored over what the environment says, as each gateway puts them together."""
    row = (await session.execute(_SETTINGS)).one_or_none()
    if row is None:
        return initial
    return msgspec.convert(msgspec.to_builtins(initial) | row.values_ | {"version": row.version}, LiveSettings)


def _decided(
    view: BindingView | None, hint: str | None, address: ClientAddress, live: LiveSettings, method: str
) -> Decided:
    binding = None if view is None else repository.to_binding(view)
    now = time.time()
    by_mode: dict[Mode, Decision] = {}
    for mode in Mode:
        as_if = msgspec.structs.replace(live, mode=mode)
        moded = None if binding is None else msgspec.structs.replace(binding, mode=mode)
        may_claim = verdict.may_claim(method, b"", live)
        by_mode[mode] = _decision(moded, verdict.judge(moded, address, as_if, now, may_claim=may_claim), address, now)
    in_force = (binding.mode if binding is not None else None) or live.mode
    around = [b for b in (binding.networks if binding else ()) if b.network.contains(address)]
    covering = next((b.network.text for b in around if b.expires_at is None or b.expires_at > now), None)
    return Decided(
        address.text,
        hint if view is None else view.hint,
        None if view is None else _shortened(view),
        covering,
        BindingMode(in_force.value),
        by_mode[Mode.ENFORCE],
        by_mode[Mode.OBSERVE],
    )


def _decision(binding: Binding | None, judged: Any, address: ClientAddress, now: float) -> Decision:
    """The rule is the reason where there is one, else what made it an allowance."""
    if judged.action is Action.REFUSE:
        return Decision("refuse", judged.reason.value, verdict.STATUS[judged.reason])
    if judged.observed:
        return Decision("observe", judged.reason.value)
    if binding is None:
        return Decision("allow", "first_use_binds" if judged.action is Action.CLAIM else "first_use_passes")
    if binding.covers(address, now):
        return Decision("allow", "network_bound")
    return Decision("allow", "room_for_network" if judged.action is Action.LEARN else "room_but_not_learned")


def _shortened(view: BindingView) -> BindingView:
    return msgspec.structs.replace(view, networks=view.networks[:NETWORKS_IN_LISTS])


_SETTINGS = text('SELECT version, "values" AS values_ FROM runtime_setting ORDER BY version DESC LIMIT 1')
