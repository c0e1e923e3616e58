"""What an alert says, in both languages, and what it never says."""

# ruff: noqa: RUF001 - Chinese has its own colon and comma

import json
from datetime import UTC, datetime

import pytest

from admin_api.alerts import messages
from admin_api.alerts.messages import Alert
from admin_api.schemas.alerts import AlertKind, Language

AT = datetime(2026, 11, 25, 18, 0, tzinfo=UTC)
CONSOLE = "https://example.com/admin/ui"
FACTS = {
    AlertKind.KEY_INTERCEPTED: {
        "addresses": [{"address": "198.51.100.7", "count": 9}, {"address": "2001:db8::7", "count": 2}],
        "address_count": 5,
        "bound_networks": ["203.0.113.0/24", "2001:db8:1::/64"],
        "enforced_count": 10,
        "observed_count": 3,
        "since": "2026-11-25T17:55:00+00:00",
    },
    AlertKind.BINDING_CREATED: {"count": 12, "keys": [{"binding_id": 1, "hint": "abcd…wxyz"}]},
    AlertKind.BINDING_BANNED: {
        "by": "root",
        "reason": "resold\nto\x1b[31m many " + "x" * 500,
        "expires_at": "2026-12-01T00:00:00Z",
        "count": 1,
        "keys": [{"binding_id": 1, "hint": ""}],
    },
    AlertKind.ARCHIVE_RUN: {"archived": 7, "remaining": 0},
    AlertKind.STORE_OUTAGE: {"store": "redis", "since": "2026-11-25T17:55:00+00:00"},
    AlertKind.STORE_RECOVERED: {"store": "postgresql", "since": "2026-11-25T17:55:00+00:00", "seconds": 95},
    messages.TEST: {},
}


def alert(kind: str) -> Alert:
    return Alert("0" * 32, kind, AT, "abcd…wxyz", 7, FACTS[kind])


def text(kind: str, language: Language = Language.EN, console: str = CONSOLE) -> str:
    message = messages.word(alert(kind), language, console)
    return f"{message.title}\n{message.text}"


def test_of_a_key_it_says_hint_addresses_networks_counts_since_when_and_where_to_look():
    said = text(AlertKind.KEY_INTERCEPTED)
    for part in (
        *("abcd…wxyz", "Refused: 10", "observed: 3", "198.51.100.7 (9), 2001:db8::7 (2) and 3 more"),
        *("203.0.113.0/24, 2001:db8:1::/64", "2026-11-25 17:55:00 UTC", f"{CONSOLE}/bindings/7"),
    ):
        assert part in said


def test_the_same_in_chinese():
    said = text(AlertKind.KEY_INTERCEPTED, Language.ZH_CN)
    for part in (
        *("密钥 abcd…wxyz", "已拦截：10 次", "仅观察：3 次", "198.51.100.7 (9)、2001:db8::7 (2) 等 5 个"),
        *("203.0.113.0/24", "2026-11-25 17:55:00 UTC", f"{CONSOLE}/bindings/7"),
    ):
        assert part in said


@pytest.mark.parametrize("kind", [*AlertKind, messages.TEST])
def test_every_kind_has_its_words_in_both_languages(kind: str):
    english, chinese = text(kind), text(kind, Language.ZH_CN)
    assert english != chinese
    assert any("一" <= character <= "鿿" for character in chinese)
    assert not any("一" <= character <= "鿿" for character in english)


def test_what_an_operator_wrote_stays_one_short_line():
    lines = text(AlertKind.BINDING_BANNED).splitlines()
    [reason] = [line for line in lines if line.startswith("Reason")]
    assert len(reason) <= messages.LINE_CHARACTERS
    assert "\x1b" not in reason


def test_without_the_consoles_address_there_is_no_link():
    assert "http" not in text(AlertKind.KEY_INTERCEPTED, console="")


def test_a_webhook_gets_type_time_and_data():
    one = alert(AlertKind.KEY_INTERCEPTED)
    said = json.loads(messages.as_json(one, messages.word(one, Language.EN, CONSOLE)))
    assert (said["type"], said["timestamp"]) == ("key_intercepted", "2026-11-25T18:00:00Z")
    assert said["data"]["link"] == f"{CONSOLE}/bindings/7"
    assert said["data"]["addresses"][0] == {"address": "198.51.100.7", "count": 9}
    assert said["data"]["hint"] == "abcd…wxyz"
    assert said["data"]["title"].startswith("Key-IP Sentinel")
