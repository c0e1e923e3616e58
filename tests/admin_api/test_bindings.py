"""One binding: found by its key, shown whole, its timeline, and what a token must be allowed to see it."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from tests.admin_api.binding_rows import LONG_AGO, bind, connected, identity, new_key

pytestmark = pytest.mark.anyio


async def test_a_key_is_looked_up_by_the_gateways_grammar(api, admin_dsn):
    """Scheme, prefix and letter case are read as on the data plane; the answer has the fingerprint and no key."""
    key = new_key()
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, key, "203.0.113.7/32")
    for spelling in (key, key.removeprefix("sk-"), f"Bearer {key}", key.upper().replace("SK-", "sk-")):
        answer = await api.post("/bindings/lookup", json={"key": spelling})
        assert answer.status_code == 200, answer.text
        assert answer.json()["binding"]["id"] == binding_id
        assert answer.json()["fingerprint"] == identity(key).fingerprint.hex()
        assert key.removeprefix("sk-") not in answer.text.lower()


async def test_an_unknown_key_is_nobodys_and_a_malformed_one_is_refused_unquoted(api):
    """Unbound is an answer; what no gateway would take for a key is a fault, and no message repeats it."""
    unbound = (await api.post("/bindings/lookup", json={"key": new_key()})).json()
    assert (unbound["binding"], unbound["archived"]) == (None, 0)
    for malformed in ("sk-schlüssel", "sk-two words", "Bearer", "midjourney-proxy", "sk-a\x00b", "sk-" + "a" * 500):
        refused = await api.post("/bindings/lookup", json={"key": malformed})
        assert refused.status_code == 400, malformed
        assert refused.json()["code"] == "invalid_input"
        assert malformed not in json.dumps(refused.json(), ensure_ascii=False) or malformed == "Bearer"


async def test_the_server_never_logs_a_key(api, admin_server):
    """Neither a look-up nor a faulty request leaves the key in the log."""
    key = new_key()
    await api.post("/bindings/lookup", json={"key": key})
    await api.post("/bindings/lookup", json={"key": key + "!"})
    await api.post("/decide", json={"key": key, "address": "nowhere"})
    await api.post("/bindings/import", content=json.dumps({"key": key, "networks": ["nowhere"]}))
    assert key.removeprefix("sk-") not in admin_server.log_text()


async def test_one_binding_is_shown_whole_with_its_version_as_etag(api, admin_dsn):
    """All networks, also more than a list shows; the ETag is what an edit sends back."""
    networks = [f"203.0.113.{n}/32" for n in range(30)]
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, new_key(), *networks, note="office", last_ip="203.0.113.7")
    answer = await api.get(f"/bindings/{binding_id}")
    shown = answer.json()
    assert [each["network"] for each in shown["networks"]] == networks
    assert answer.headers["etag"] == f'"{shown["version"]}"'
    assert (shown["note"], shown["last_ip"], shown["mode"], shown["status"]) == (
        "office", "203.0.113.7", "inherit", "active",
    )  # fmt: skip
    assert datetime.fromisoformat(shown["first_used_at"]) == LONG_AGO
    listed = (await api.get("/bindings")).json()["items"][0]
    assert (len(listed["networks"]), listed["network_count"]) == (10, 30)


async def test_a_ban_that_has_expired_is_shown_as_none(api, admin_dsn):
    """As gateways read it: they let the key through from that moment on."""
    async with connected(admin_dsn) as pg:
        binding_id = await bind(
            pg, new_key(), "203.0.113.7/32", status="banned", ban_reason="x", ban_expires_at=LONG_AGO
        )
    shown = (await api.get(f"/bindings/{binding_id}")).json()
    assert (shown["status"], shown["ban_reason"], shown["ban_expires_at"]) == ("active", None, None)


@pytest.mark.parametrize("path", ["/bindings/999999", "/bindings/999999/timeline"])
async def test_what_is_not_there_is_not_found(api, path):
    """A problem document with its stable code."""
    answer = await api.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("number", ["0", "-1", "9223372036854775808"])
async def test_an_impossible_id_is_no_fault_of_the_server(api, number):
    """Beyond what PostgreSQL can hold there is nothing either."""
    assert (await api.get(f"/bindings/{number}")).status_code in (400, 404)


async def add_intercept(pg, key, at, client="198.51.100.9"):
    known = identity(key)
    await pg.execute(
        "INSERT INTO intercept (event_id, at, key_hash, key_hint, client, bound_networks, reason, enforced, method,"
        " path, user_agent, gateway, peer)"
        " VALUES ($1, $2, $3, $4, $5, $6, 'key_bound_to_other_address', true, 'POST', '/v1', '', 'g', '10.0.0.2')",
        uuid.uuid4().bytes, at, known.fingerprint, known.hint, client, ["203.0.113.0/24"],
    )  # fmt: skip


async def test_a_timeline_tells_networks_edits_and_intercepts_latest_first(api, admin_dsn):
    """Of this binding and key only."""
    key, other = new_key(), new_key()
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, key, "203.0.113.7/32")
        await bind(pg, other, "203.0.113.8/32")
        await add_intercept(pg, key, LONG_AGO + timedelta(days=1))
        await add_intercept(pg, other, LONG_AGO + timedelta(days=1))
    await api.post("/bindings/ban", json={"ids": [binding_id], "reason": "stolen"})
    items = (await api.get(f"/bindings/{binding_id}/timeline")).json()["items"]
    assert [item["kind"] for item in items] == ["audit", "intercept", "network"]
    audit, intercept, network = (item["data"] for item in items)
    assert (audit["action"], audit["actor"], audit["reason"]) == ("binding:ban", "root", "stolen")
    assert (audit["before"]["status"], audit["after"]["status"]) == ("active", "banned")
    assert (intercept["client"], intercept["bound_networks"]) == ("198.51.100.9", ["203.0.113.0/24"])
    assert intercept["peer"] == "10.0.0.2"
    assert (network["network"], network["source"]) == ("203.0.113.7/32", "first_use")


async def test_a_timeline_read_in_pages_has_each_entry_once(api, admin_dsn):
    """Also where entries of all kinds share one moment, and while new ones come in."""
    key = new_key()
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, key, *[f"203.0.113.{n}/32" for n in range(4)])
        await pg.execute("UPDATE binding_network SET created_at = $1", moment)
        for n in range(9):
            await add_intercept(pg, key, moment if n < 5 else moment + timedelta(minutes=n))
            await pg.execute(
                "INSERT INTO admin_audit (at, actor_kind, actor, action, subject_kind, subject_id)"
                " VALUES ($1, 'user', 'a', $2, 'binding', $3)",
                moment if n < 5 else moment - timedelta(minutes=n), f"binding:{n}", str(binding_id),
            )  # fmt: skip
        whole = (await api.get(f"/bindings/{binding_id}/timeline")).json()
        assert (len(whole["items"]), whole["next"]) == (22, None)
        read, cursor = [], None
        while True:
            asked = {"limit": 3} | ({"cursor": cursor} if cursor else {})
            page = (await api.get(f"/bindings/{binding_id}/timeline", params=asked)).json()
            read += page["items"]
            cursor = page["next"]
            if cursor is None:
                break
            await add_intercept(pg, key, datetime.now(UTC))
    assert read == whole["items"]


async def test_who_may_not_read_bindings_sees_none(as_role, anonymous):
    """A viewer sees everything here and changes nothing; without a token there is nothing to see."""
    viewer = await as_role("viewer")
    assert (await viewer.get("/bindings")).status_code == 200
    assert (await viewer.post("/bindings/lookup", json={"key": new_key()})).status_code == 200
    for method, path, body in (
        ("POST", "/bindings/ban", {"ids": [1]}),
        ("POST", "/bindings/unban", {"ids": [1]}),
        ("POST", "/bindings/unbind", {"ids": [1]}),
        ("PUT", "/bindings/ip", {"id": 1, "networks": ["203.0.113.7"]}),
        ("PUT", "/bindings/mode", {"ids": [1], "mode": "observe"}),
        ("PUT", "/bindings/note", {"id": 1, "note": "x"}),
        ("POST", "/bindings/import", {}),
        ("POST", "/archive/restore", {"ids": [1]}),
    ):
        refused = await viewer.request(method, path, json=body)
        assert (refused.status_code, refused.json()["extra"]) == (403, {"scope": "bindings:write"}), path
        assert (await anonymous.request(method, path, json=body)).status_code == 401
    for path in ("/bindings", "/bindings/1", "/bindings/1/timeline", "/bindings/export", "/archive"):
        assert (await anonymous.get(path)).status_code == 401
