"""Importing bindings from JSON lines: by key or fingerprint, line by line, tried before it is done."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.admin_api.binding_rows import audit_of, bind, bind_many, connected, entry_of, identity, new_key

pytestmark = pytest.mark.anyio

HOME = "203.0.113.7/32"


async def imported(api, *lines, dry_run=False):
    body = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    answer = await api.post("/bindings/import", content=body.encode(), params={"dry_run": dry_run})
    assert answer.status_code == 200, answer.text
    return answer.json()


def counts(report):
    return [report[name] for name in ("created", "updated", "unchanged", "failed")]


async def test_bindings_are_made_and_changed_by_key_and_by_fingerprint(api, admin_dsn, redis_url):
    """Fields that a line does not have stay as they are; gateways have the result at once; each has its audit row."""
    new, known, banned = new_key(), new_key(), identity(new_key()).fingerprint.hex()
    async with connected(admin_dsn) as pg:
        known_id = await bind(pg, known, HOME, note="keep", mode="observe")
        lines = (
            {"key": new, "networks": ["192.0.2.1", "2001:db8::/32"], "note": "Büro", "mode": "enforce"},
            {"fingerprint": identity(known).fingerprint.hex().upper(), "networks": [{"network": "198.51.100.0/24"}]},
            {"fingerprint": banned, "hint": "abcd…wxyz", "status": "banned", "ban_reason": "leaked"},
        )
        report = await imported(api, *lines)
        assert (counts(report), report["published"], report["dry_run"]) == ([2, 1, 0, 0], True, False)
        made = (await api.post("/bindings/lookup", json={"key": new})).json()["binding"]
        assert ([each["network"] for each in made["networks"]], made["note"], made["mode"], made["hint"]) == (
            ["192.0.2.1/32", "2001:db8::/32"], "Büro", "enforce", identity(new).hint,
        )  # fmt: skip
        changed = (await api.get(f"/bindings/{known_id}")).json()
        assert ([each["network"] for each in changed["networks"]], changed["note"], changed["mode"]) == (
            ["198.51.100.0/24"], "keep", "observe",
        )  # fmt: skip
        [row] = (await api.get("/bindings", params={"status": "banned"})).json()["items"]
        assert (row["fingerprint"], row["hint"], row["ban_reason"]) == (banned, "abcd…wxyz", "leaked")
        assert (await entry_of(redis_url, known)).version == changed["version"]
        assert (await entry_of(redis_url, new)).id == made["id"]
        [audited] = await audit_of(pg, known_id)
        assert (audited["action"], json.loads(audited["before"])["networks"]) == ("binding:import", [HOME])
        assert new.removeprefix("sk-") not in json.dumps(report)
        assert counts(await imported(api, *lines)) == [0, 0, 3, 0]
        assert len(await audit_of(pg, known_id)) == 1


async def test_a_dry_run_says_what_would_change_and_changes_nothing(api, admin_dsn, redis_url):
    """With before and after of each; then the real one does exactly that."""
    known, new = new_key(), new_key()
    async with connected(admin_dsn) as pg:
        known_id = await bind(pg, known, HOME)
        lines = ({"key": known, "note": "x"}, {"key": new, "networks": [HOME]}, {"key": new_key()})
        before = (await api.get(f"/bindings/{known_id}")).json()
        tried = await imported(api, *lines, dry_run=True)
        assert (await api.get(f"/bindings/{known_id}")).json() == before
        assert await pg.fetchval("SELECT count(*) FROM binding") == 1
        assert await pg.fetchval("SELECT count(*) FROM admin_audit") == 0
        assert await entry_of(redis_url, new) == "absent"
    assert (counts(tried), tried["dry_run"]) == ([1, 1, 0, 1], True)
    notes = [[state and state["note"] for state in (each["before"], each["after"])] for each in tried["changes"]]
    assert [each["line"] for each in tried["changes"]] == [1, 2]
    assert notes == [
        ["", "x"], [None, ""],
    ]  # fmt: skip
    done = await imported(api, *lines)
    assert done | {"dry_run": True} == tried


async def test_faulty_lines_are_told_by_number_and_the_others_imported(api, admin_dsn):
    """What a message quotes is never the line."""
    key = new_key()
    secret = new_key()
    report = await imported(
        api,
        "\ufeff" + json.dumps({"key": key, "networks": [HOME]}) + "\r",
        "",
        "{",
        "[]",
        {"key": secret, "fingerprint": "00" * 32, "networks": [HOME]},
        {"networks": [HOME]},
        {"key": secret + "!", "networks": [HOME]},
        {"key": secret, "networks": ["203.0.113.7/24"]},
        {"key": secret, "networks": []},
        {"key": secret, "networks": [HOME], "note": "a\x00b"},
        {"key": secret, "networks": [HOME], "ban_expires_at": "2030-01-01T00:00:00"},
        {"key": secret, "networks": [HOME], "mode": "off"},
        {"fingerprint": "00", "networks": [HOME]},
        {"key": secret, "networks": [HOME], "note": "x" * 1_100_000},
        "[" * 100_000,
        {"key": secret, "networks": [HOME], "status": "banned", "ban_expires_at": "2020-01-01T00:00:00Z"},
    )
    assert counts(report) == [2, 0, 0, 13]
    assert [fault["line"] for fault in report["faults"] if fault["line"] not in (9, 14)] == [
        3,
        4,
        5,
        6,
        7,
        8,
        10,
        11,
        12,
        13,
        15,
    ]
    assert {9, 14} <= {fault["line"] for fault in report["faults"]}
    messages = {fault["line"]: fault["message"] for fault in report["faults"]}
    assert "203.0.113.0/24" in messages[8]
    assert secret.removeprefix("sk-") not in json.dumps(report)
    over = (await api.post("/bindings/lookup", json={"key": secret})).json()["binding"]
    assert over["status"] == "active"  # the ban was over when it was imported


async def test_two_lines_about_one_key_are_done_one_after_the_other(api, admin_dsn):
    """The second finds what the first made."""
    key = new_key()
    report = await imported(
        api, {"key": key, "networks": [HOME]}, {"key": key.upper().replace("SK-", "sk-"), "note": "later"}
    )
    assert counts(report) == [1, 1, 0, 0]
    found = (await api.post("/bindings/lookup", json={"key": key})).json()["binding"]
    assert (found["note"], found["network_count"]) == ("later", 1)


async def test_an_export_imported_again_changes_nothing_and_into_an_empty_table_everything(api, admin_dsn):
    """Bans, expiries, modes, notes and all networks survive the round trip, many lots long."""
    async with connected(admin_dsn) as pg:
        await bind_many(pg, 420)
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        await bind(pg, new_key(), HOME, "10.0.0.0/8", status="banned", ban_reason="r", ban_expires_at=tomorrow)
        await bind(pg, new_key(), *[f"10.0.{n}.0/24" for n in range(50)], mode="enforce", note="Büro\n2")
        await pg.execute("UPDATE binding_network SET expires_at = $1 WHERE network = '10.0.7.0/24'", tomorrow)
        exported = (await api.get("/bindings/export")).text
        assert counts(await imported(api, exported)) == [0, 0, 422, 0]
        await pg.execute("TRUNCATE binding, binding_network CASCADE")
        report = await imported(api, exported)
        assert (counts(report), len(report["changes"])) == ([422, 0, 0, 0], 422)
        again = (await api.get("/bindings/export")).text

    def kept(text):
        lines = [json.loads(line) for line in text.splitlines()]
        names = (
            "fingerprint",
            "hint",
            "status",
            "ban_reason",
            "ban_expires_at",
            "mode",
            "note",
            "first_used_at",
            "last_used_at",
        )
        return sorted(
            [line[name] for name in names] + [[(each["network"], each["expires_at"]) for each in line["networks"]]]
            for line in lines
        )

    assert kept(again) == kept(exported)


async def test_an_empty_import_is_none(api):
    """No lines, no changes."""
    assert counts(await imported(api, "")) == [0, 0, 0, 0]
    assert counts(await imported(api, "\n\r\n \n")) == [0, 0, 0, 0]
