"""What an alert says: JSON for webhooks, a title and some lines for people, in English or Chinese.

Where it stands in the walk: `jobs.deliveries` reads an `Alert` from its row, `sending` words it for its target. Pure.
All of it comes from what was stored when the alert was raised, so each attempt says the same under the same id.

A message names a key by its hint only. What comes from clients is shown as addresses and networks, nothing else of
theirs; what operators wrote (a ban's reason) is kept to one short line.
"""

# ruff: noqa: RUF001 - Chinese has its own colon and comma

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from admin_api.schemas.alerts import AlertKind, Language

TEST = "test"
LINE_CHARACTERS = 300


class Alert(msgspec.Struct, frozen=True):
    """``kind``: an `AlertKind`, or `TEST`. ``facts`` as they were stored; see `raising`."""

    message_id: str
    kind: str
    raised_at: datetime
    hint: str = ""
    binding_id: int | None = None
    facts: Mapping[str, Any] = {}


class Message(msgspec.Struct, frozen=True):
    """``link`` empty: the console's address is not known, or there is no binding to show."""

    title: str
    lines: list[str]
    link: str

    @property
    def text(self) -> str:
        return "\n".join([*self.lines, *([self.link] if self.link else [])])


def webhook_id(message_id: str) -> str:
    """The same for each attempt and for sending anew: receivers know by it what they have had."""
    return f"msg_{message_id}"


def as_json(alert: Alert, message: Message) -> bytes:
    """``type``, ``timestamp`` and ``data``, as Standard Webhooks advises."""
    data = dict(alert.facts) | {
        "hint": alert.hint,
        "binding_id": alert.binding_id,
        "link": message.link,
        "title": message.title,
        "text": message.text,
    }
    return msgspec.json.encode({"type": alert.kind, "timestamp": alert.raised_at, "data": data})


def word(alert: Alert, language: Language, console_url: str) -> Message:
    """``console_url``: where the console is served, without a slash at its end; empty: no links."""
    english = language is Language.EN
    title, lines = _WORDINGS[alert.kind](alert, _Words(english=english))
    link = f"{console_url}/bindings/{alert.binding_id}" if console_url and alert.binding_id is not None else ""
    return Message(f"Key-IP Sentinel: {title}", [_short(line) for line in lines], link)


class _Words:
    """Chooses between the two languages, and writes what both write alike."""

    def __init__(self, *, english: bool) -> None:
        self._english = english

    def __call__(self, english: str, chinese: str) -> str:
        return english if self._english else chinese

    def moment(self, text: str) -> str:
        at = msgspec.convert(text, datetime, strict=False).astimezone(UTC)
        return f"{at:%Y-%m-%d %H:%M:%S} UTC"

    def some(self, shown: list[str], count: int) -> str:
        """``count``: of all there are, of which some are shown."""
        if not shown:
            return "-"
        more = count - len(shown)
        listed = self(", ", "、").join(shown)
        return listed + (self(f" and {more} more", f" 等 {count} 个") if more > 0 else "")


def _intercepted(alert: Alert, say: _Words) -> tuple[str, list[str]]:
    facts = alert.facts
    addresses = [f"{each['address']} ({each['count']})" for each in facts["addresses"]]
    refused, observed = facts["enforced_count"], facts["observed_count"]
    networks = facts["bound_networks"]
    return say(f"key {alert.hint} is used from elsewhere", f"密钥 {alert.hint} 在其他地址被使用"), [
        say(f"Refused: {refused}, only observed: {observed}", f"已拦截：{refused} 次，仅观察：{observed} 次"),
        say(f"Since: {say.moment(facts['since'])}", f"起始时间：{say.moment(facts['since'])}"),
        say("From: ", "来源地址：") + say.some(addresses, facts["address_count"]),
        say("Bound to: ", "绑定网段：") + say.some(networks, len(networks)),
    ]


def _created(alert: Alert, say: _Words) -> tuple[str, list[str]]:
    count = alert.facts["count"]
    return say(f"{count} new binding(s)", f"新增 {count} 个绑定"), [_keys(alert, say)]


def _banned(alert: Alert, say: _Words) -> tuple[str, list[str]]:
    facts = alert.facts
    until = say.moment(facts["expires_at"]) if facts["expires_at"] else say("lifted by an operator", "手动解除")
    return say(f"{facts['count']} key(s) banned", f"{facts['count']} 个密钥被封禁"), [
        _keys(alert, say),
        say(f"By: {facts['by']}, until: {until}", f"操作人：{facts['by']}，截止：{until}"),
        say("Reason: ", "原因：") + (facts["reason"] or "-"),
    ]


def _archived(alert: Alert, say: _Words) -> tuple[str, list[str]]:
    counts = [f"{name}: {value}" for name, value in alert.facts.items()]
    return say("unused bindings were archived", "已归档未使用的绑定"), counts


def _outage(alert: Alert, say: _Words) -> tuple[str, list[str]]:
    store, since = alert.facts["store"], say.moment(alert.facts["since"])
    return say(f"{store} does not answer", f"{store} 无响应"), [say(f"Since: {since}", f"起始时间：{since}")]


def _recovered(alert: Alert, say: _Words) -> tuple[str, list[str]]:
    store, since, seconds = alert.facts["store"], say.moment(alert.facts["since"]), alert.facts["seconds"]
    return say(f"{store} answers again", f"{store} 已恢复"), [
        say(f"It was away for {seconds} s, since {since}", f"中断 {seconds} 秒，起始时间：{since}")
    ]


def _test(_alert: Alert, say: _Words) -> tuple[str, list[str]]:
    return say("test", "测试"), [say("This target works: alerts will come here.", "配置有效：告警将发送到此处。")]


_WORDINGS: dict[str, Callable[[Alert, _Words], tuple[str, list[str]]]] = {
    AlertKind.KEY_INTERCEPTED: _intercepted,
    AlertKind.BINDING_CREATED: _created,
    AlertKind.BINDING_BANNED: _banned,
    AlertKind.ARCHIVE_RUN: _archived,
    AlertKind.STORE_OUTAGE: _outage,
    AlertKind.STORE_RECOVERED: _recovered,
    TEST: _test,
}


def _keys(alert: Alert, say: _Words) -> str:
    hints = [each["hint"] or f"#{each['binding_id']}" for each in alert.facts["keys"]]
    return say("Keys: ", "密钥：") + say.some(hints, alert.facts["count"])


def _short(line: str) -> str:
    flat = "".join(character for character in " ".join(line.split()) if character.isprintable())
    return flat if len(flat) <= LINE_CHARACTERS else flat[: LINE_CHARACTERS - 1] + "…"
