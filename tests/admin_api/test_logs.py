"""``/logs``: each filter, newest first, page by page whatever is inserted meanwhile."""

import os
import re
from datetime import UTC, datetime, timedelta

import pytest

from admin_api.repositories.logs import LogFilter, page_statement
from proxy_core.contracts import Reason
from tests.admin_api.batches import new_binding

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC).replace(microsecond=0)
ALICE, BOB = b"a" * 32, b"b" * 32
BANNED, ELSEWHERE = "key_banned", "key_bound_to_other_address"
INSERT = """
INSERT INTO intercept (event_id, at, key_hash, key_hint, client, bound_networks, reason, enforced, method, path,
                       user_agent, gateway, repeat_count, peer)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'POST', $9, $10, $11, $12, $13)
"""


class Log:
    """Rows as ingestion leaves them; ``path`` names a row."""

    def __init__(self, admin_pg) -> None:
        self.pg = admin_pg

    async def add(
        self, path="/", *, ago=0.0, key=ALICE, hint="Abcd…wxyz", client="198.51.100.7", reason=ELSEWHERE, enforced=True,
        agent="sdk", gateway="gw", repeats=1, bound=("203.0.113.0/24",), event_id=None,
        peer=None,
    ):  # fmt: skip
        at = NOW - timedelta(seconds=ago)
        event_id = event_id or os.urandom(16)
        values = (event_id, at, key, hint, client, list(bound), reason, enforced, path, agent, gateway, repeats, peer)
        await self.pg.execute(INSERT, *values)
        return event_id


@pytest.fixture
def log(admin_pg):
    return Log(admin_pg)


async def paths(api, **filters) -> list[str]:
    answer = await api.get("/logs", params=filters)
    assert answer.status_code == 200, answer.text
    return [item["path"] for item in answer.json()["items"]]


async def test_an_intercept_is_shown_whole(api, log, admin_pg):
    binding_id = await new_binding(admin_pg, ALICE)
    event_id = await log.add("/v1/chat", client="2001:db8::7", enforced=False, repeats=4, bound=["10.0.0.0/8", "::/64"],
                             peer="10.0.0.2")  # fmt: skip
    await log.add(key=BOB, client=None, ago=1, bound=[])
    items = (await api.get("/logs")).json()["items"]
    assert items[0] == {
        "event_id": event_id.hex(),
        "at": f"{NOW:%Y-%m-%dT%H:%M:%SZ}",
        "client": "2001:db8::7",
        "hint": "Abcd…wxyz",
        "fingerprint": ALICE.hex(),
        "binding_id": binding_id,
        "bound_networks": ["10.0.0.0/8", "::/64"],
        "reason": ELSEWHERE,
        "enforced": False,
        "repeat_count": 4,
        "method": "POST",
        "path": "/v1/chat",
        "user_agent": "sdk",
        "gateway": "gw",
        "peer": "10.0.0.2",
    }
    assert items[1]["peer"] is None
    assert (items[1]["binding_id"], items[1]["client"], items[1]["bound_networks"]) == (None, None, [])


async def test_times_bound_what_is_shown_from_inclusive_to_exclusive(api, log):
    for ago in (0, 10, 20, 40 * 86_400):
        await log.add(f"/{ago}", ago=ago)
    assert await paths(api) == ["/0", "/10", "/20", f"/{40 * 86_400}"]
    ten = (NOW - timedelta(seconds=10)).isoformat()
    assert await paths(api, **{"from": ten}) == ["/0", "/10"]
    assert await paths(api, to=ten) == ["/20", f"/{40 * 86_400}"]
    elsewhere = (NOW - timedelta(seconds=10)).astimezone(datetime.now().astimezone().tzinfo).isoformat()
    assert await paths(api, **{"from": elsewhere, "to": NOW.isoformat()}) == ["/10"]


async def test_reason_enforced_and_gateway_choose_rows(api, log):
    await log.add("/banned", reason=BANNED)
    await log.add("/observed", enforced=False, ago=1, gateway="east")
    await log.add("/refused", ago=2)
    assert await paths(api, reason=BANNED) == ["/banned"]
    assert await paths(api, reason=ELSEWHERE) == ["/observed", "/refused"]
    assert await paths(api, enforced="false") == ["/observed"]
    assert await paths(api, enforced="true") == ["/banned", "/refused"]
    assert await paths(api, reason=ELSEWHERE, enforced="true") == ["/refused"]
    assert await paths(api, gateway="east") == ["/observed"]


@pytest.mark.parametrize(
    ("network", "found"),
    [
        ("10.0.0.0/24", ["10.0.0.0", "10.0.0.128", "10.0.0.255"]),
        ("10.0.0.128", ["10.0.0.128"]),
        ("10.0.0.0/31", ["10.0.0.0"]),
        ("10.0.1.0/24", ["10.0.1.0"]),
        ("0.0.0.0/0", ["10.0.0.0", "10.0.0.128", "10.0.0.255", "10.0.1.0", "9.255.255.255"]),
        ("2001:db8::/64", ["2001:db8::", "2001:db8::ffff:ffff:ffff:ffff"]),
        ("::ffff:10.0.0.128", ["10.0.0.128"]),
        ("::/0", ["2001:db8:0:1::", "2001:db8::", "2001:db8::ffff:ffff:ffff:ffff"]),
        ("192.0.2.0/24", []),
    ],
)
async def test_a_network_finds_the_clients_in_it_and_no_others(api, log, network, found):
    clients = ["9.255.255.255", "10.0.0.0", "10.0.0.128", "10.0.0.255", "10.0.1.0"]
    for client in [*clients, "2001:db8::", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8:0:1::", None]:
        await log.add(str(client), client=client)
    assert sorted(await paths(api, network=network)) == found


async def test_keys_are_found_by_fingerprint_hint_and_binding(api, log, admin_pg):
    await log.add("/alice")
    await log.add("/bob", key=BOB, hint="ab%d…_xyz", ago=1)
    assert await paths(api, fingerprint=ALICE.hex()) == ["/alice"]
    assert await paths(api, fingerprint=BOB.hex().upper()) == ["/bob"]
    assert await paths(api, hint="ABCD") == ["/alice"]
    assert await paths(api, hint="ab%") == ["/bob"]
    assert await paths(api, hint="ab") == ["/alice", "/bob"]
    binding_id = await new_binding(admin_pg, BOB)
    assert await paths(api, binding_id=binding_id) == ["/bob"]
    assert await paths(api, binding_id=binding_id + 1) == []
    await admin_pg.execute(
        """WITH gone AS (DELETE FROM binding RETURNING *)
        INSERT INTO binding_archive (binding_id, key_hash, key_hint, note, networks, first_used_at, last_used_at,
            request_count, intercept_count, archived_by, cause)
        SELECT id, key_hash, key_hint, note, '[]', now(), now(), 0, 0, 'me', 'unbound' FROM gone"""
    )
    assert await paths(api, binding_id=binding_id) == ["/bob"]


async def test_pages_hold_each_row_once_although_rows_are_inserted_between_them(api, log):
    """Rows of the same moment too, and over the months' partitions."""
    for number in range(5):
        await log.add(f"/same{number}", event_id=bytes([number]) * 16)
        await log.add(f"/old{number}", ago=86_400 * 20 * (number + 1))
    seen, cursor = [], None
    for _ in range(20):
        page = (await api.get("/logs", params={"limit": 3} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [item["path"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
        await log.add("/newer", event_id=b"\xff" * 15 + os.urandom(1), ago=-1)
    assert seen == [f"/same{n}" for n in (4, 3, 2, 1, 0)] + [f"/old{n}" for n in range(5)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("from", "yesterday"),
        ("from", "0001-01-01T00:00:00+10:00"),
        ("to", "9999-12-31T23:59:59-10:00"),
        ("reason", "because"),
        ("enforced", "maybe"),
        ("network", "10.0.0.1/24"),
        ("network", "10.0.0"),
        ("network", "\0"),
        ("fingerprint", "abc"),
        ("binding_id", "0"),
        ("binding_id", str(2**63)),
        ("hint", "\0"),
        ("gateway", "a\0"),
        ("limit", "0"),
        ("limit", "201"),
        ("cursor", "nonsense"),
        ("cursor", "k6ppbnRlcmNlcHRz"),
    ],
)
async def test_what_a_filter_cannot_mean_is_refused_and_named(api, name, value):
    for path in ("/logs", "/logs/export"):
        if path == "/logs/export" and name in ("limit", "cursor"):
            continue
        answer = await api.get(path, params={name: value})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input"), answer.text
        assert any(name in fault["field"] or name in fault.get("detail", "") for fault in answer.json()["faults"])


async def test_a_network_with_host_bits_is_answered_with_what_it_would_be(api):
    assert "10.0.0.0/24" in (await api.get("/logs", params={"network": "10.0.0.1/24"})).json()["detail"]


async def test_a_token_without_the_scope_reads_no_logs(api, anonymous, admin_pg):
    assert (await anonymous.get("/logs")).status_code == 401
    await admin_pg.execute(
        "INSERT INTO service_token (name, token_hash, hint, scopes, created_by) "
        "VALUES ('t', sha256('sst_x'::bytea), 'sst_', '{bindings:read}', 'me')"
    )
    for path in ("/logs", "/logs/export"):
        answer = await anonymous.get(path, headers={"authorization": "Bearer sst_x"})
        assert (answer.status_code, answer.json()["extra"]) == (403, {"scope": "logs:read"})


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (LogFilter(), "at_event_id"),
        (LogFilter(reason=Reason.KEY_BANNED), "reason"),
        (LogFilter(enforced=False), "at_event_id_idx1|observed"),
        (LogFilter(fingerprint=ALICE), "key_hash"),
        (LogFilter(gateway="long gone"), "gateway"),
    ],
)
async def test_each_filter_has_an_index_that_gives_the_order_too(admin_pg, wanted, index):
    """No sort of all that match: neither an unbounded one nor a scan of the table."""
    statement, values = page_statement(wanted, 50, None)
    for number, name in enumerate(values, 1):
        statement = statement.replace(f":{name}", f"${number}")
    await admin_pg.execute("SET enable_seqscan = off; SET plan_cache_mode = force_custom_plan")
    plan = "\n".join(row[0] for row in await admin_pg.fetch(f"EXPLAIN {statement}", *values.values()))
    assert re.search(rf"Index Scan (Backward )?using intercept_\d+_\d+_({index})", plan), plan
    assert "Seq Scan on intercept" not in plan
