"""What operators do to bindings: one transaction, one audit row each, then Redis with a higher version."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from proxy_core import keyspace
from proxy_core.cache import connect
from proxy_core.contracts import Mode
from tests.admin_api.binding_rows import audit_of, bind, bind_many, connected, entry_of, identity, new_key
from tests.support import admin
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio

HOME = "203.0.113.7/32"


async def outcomes(answer):
    assert answer.status_code == 200, answer.text
    return {result["id"]: result["outcome"] for result in answer.json()["results"]}


async def shown(api, binding_id):
    return (await api.get(f"/bindings/{binding_id}")).json()


async def test_a_ban_is_committed_audited_and_in_redis_with_a_higher_version(api, admin_dsn, redis_url):
    """The entry that gateways read shows what PostgreSQL holds, and replaced what was there."""
    key = new_key()
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, key, HOME)
        before = await shown(api, binding_id)
        answer = await api.post("/bindings/ban", json={"ids": [binding_id], "reason": "stolen"})
        assert (await outcomes(answer), answer.json()["published"]) == ({binding_id: "done"}, True)
        after = await shown(api, binding_id)
        assert (after["status"], after["ban_reason"], after["ban_expires_at"]) == ("banned", "stolen", None)
        assert after["version"] > before["version"]
        entry = await entry_of(redis_url, key)
        assert (entry.is_banned(0), entry.version, entry.id) == (True, after["version"], binding_id)
        [row] = await audit_of(pg, binding_id)
    assert (row["action"], row["actor"], row["reason"]) == ("binding:ban", "root", "stolen")
    assert (json.loads(row["before"])["status"], json.loads(row["after"])["status"]) == ("active", "banned")


async def test_every_gateway_is_told_after_the_entry_is_there(api, admin_dsn, redis_url):
    """The message that makes workers forget comes once the entry says what they are to read."""
    key = new_key()
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, key, HOME)
    client = connect(redis_url, timeout_s=5)
    channel = client.pubsub()
    await channel.subscribe(keyspace.CHANGED_CHANNEL)
    await channel.get_message(timeout=5)
    await api.post("/bindings/ban", json={"ids": [binding_id]})
    message = await channel.get_message(timeout=5)
    assert message["data"] == keyspace.binding_changed(identity(key).fingerprint)
    assert (await entry_of(redis_url, key)).is_banned(0)
    await channel.aclose()
    await client.aclose()


async def test_repeating_a_request_changes_nothing(api, admin_dsn):
    """Ban, unban, mode, networks and note: the second time the version stays and no audit row is added."""
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, new_key(), HOME)
        expires_at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        for number, (method, path, body) in enumerate((
            ("POST", "/bindings/ban", {"ids": [binding_id], "reason": "x", "expires_at": expires_at}),
            ("POST", "/bindings/unban", {"ids": [binding_id]}),
            ("PUT", "/bindings/mode", {"ids": [binding_id], "mode": "observe"}),
            ("PUT", "/bindings/ip", {"id": binding_id, "networks": ["203.0.113.0/24", "2001:db8::/32"]}),
            ("PUT", "/bindings/note", {"id": binding_id, "note": "Büro"}),
        ), 1):  # fmt: skip
            first = (await api.request(method, path, json=body)).json()
            once = await shown(api, binding_id)
            second = (await api.request(method, path, json=body)).json()
            told = [each.get("outcome") or each["results"][0]["outcome"] for each in (first, second)]
            assert told == ["done", "unchanged"], path
            assert await shown(api, binding_id) == once, path
            assert len(await audit_of(pg, binding_id)) == number, path


async def test_many_ids_are_answered_one_by_one_and_once_each(api, admin_dsn):
    """What is not there is said of its id; the others are done."""
    async with connected(admin_dsn) as pg:
        ids = await bind_many(pg, 40)
        await api.post("/bindings/ban", json={"ids": ids[:1]})
        answer = await api.post("/bindings/ban", json={"ids": [*reversed(ids), 10**15, ids[3]]})
        told = [(result["id"], result["outcome"]) for result in answer.json()["results"]]
        expected = [(id_, "unchanged" if id_ == ids[0] else "done") for id_ in reversed(ids)]
        assert told == [*expected, (10**15, "not_found")]
        assert await pg.fetchval("SELECT count(*) FROM binding WHERE status = 'banned'") == 40
        assert await pg.fetchval("SELECT count(*) FROM admin_audit WHERE action = 'binding:ban'") == 40


@pytest.mark.parametrize(
    "body",
    [
        {"ids": []},
        {"ids": [0]},
        {"ids": [2**63]},
        {"ids": list(range(1, 1002))},
        {"ids": ["one"]},
        {"ids": [1], "reason": "a\x00b"},
        {"ids": [1], "reason": "x" * 501},
        {"ids": [1], "expires_at": "2020-01-01T00:00:00Z"},
        {"ids": [1], "expires_at": "2099-01-01T00:00:00"},
        {"ids": [1], "unknown": 1},
        {},
        [],
    ],
)
async def test_a_bad_ban_is_refused_whole(api, body):
    """An expiry without an offset or in the past, too many ids, unknown fields: 400 with the field's name."""
    answer = await api.post("/bindings/ban", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")


async def test_a_ban_can_expire_and_be_made_anew(api, admin_dsn, redis_url):
    """The expiry reaches gateways to the microsecond; another reason or expiry replaces the ban."""
    key = new_key()
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, key, HOME)
    expires_at = datetime.now(UTC) + timedelta(hours=1)
    await api.post("/bindings/ban", json={"ids": [binding_id], "expires_at": expires_at.isoformat()})
    assert (await entry_of(redis_url, key)).ban_expires_at == expires_at.timestamp()
    answer = await api.post("/bindings/ban", json={"ids": [binding_id], "reason": "for good"})
    assert await outcomes(answer) == {binding_id: "done"}
    assert (await entry_of(redis_url, key)).ban_expires_at is None
    await api.post("/bindings/unban", json={"ids": [binding_id]})
    assert (await entry_of(redis_url, key)).status.value == "active"
    assert (await shown(api, binding_id))["ban_reason"] is None


async def test_unbinding_archives_the_row_and_leaves_a_tombstone(api, admin_dsn, redis_url):
    """Redis says "unbound" with a version above the binding's, so that no slow reader brings the owner back."""
    key = new_key()
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, key, HOME, "2001:db8::/64", note="n", mode="observe", request_count=7)
        version = (await shown(api, binding_id))["version"]
        answer = await api.post("/bindings/unbind", json={"ids": [binding_id], "reason": "moved"})
        assert await outcomes(answer) == {binding_id: "done"}
        assert await entry_of(redis_url, key) is None
        client = connect(redis_url, timeout_s=5)
        value = await client.get(keyspace.binding(identity(key).fingerprint))
        await client.aclose()
        assert int(value[:20]) > version
        assert await pg.fetchval("SELECT count(*) FROM binding_network WHERE binding_id = $1", binding_id) == 0
        row = await pg.fetchrow("SELECT * FROM binding_archive WHERE binding_id = $1", binding_id)
        assert (row["note"], row["mode"], row["request_count"], row["cause"]) == ("n", "observe", 7, "unbound")
        assert [each["network"] for each in json.loads(row["networks"])] == [HOME, "2001:db8::/64"]
        [audited] = await audit_of(pg, binding_id)
        assert (audited["action"], audited["reason"], audited["after"]) == ("binding:unbind", "moved", None)
    again = await api.post("/bindings/unbind", json={"ids": [binding_id]})
    assert await outcomes(again) == {binding_id: "not_found"}


async def test_a_banned_key_is_not_unbound(api, admin_dsn):
    """It would be anybody's: the operator unbans it first, and means it."""
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, new_key(), HOME, status="banned")
    assert await outcomes(await api.post("/bindings/unbind", json={"ids": [binding_id]})) == {binding_id: "banned"}
    assert (await shown(api, binding_id))["status"] == "banned"


async def test_networks_are_replaced_and_normalised(api, admin_dsn, redis_url):
    """Both families, addresses, duplicates and what lies inside another; what stays keeps its history."""
    key = new_key()
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, key, HOME, "192.0.2.1/32")
        given = [
            "203.0.113.7",
            "198.51.100.0/24",
            "198.51.100.9/32",
            "198.51.100.0/24",
            "2001:DB8::/32",
            "::ffff:10.1.2.0/120",
        ]
        answer = await api.put(
            "/bindings/ip", json={"id": binding_id, "networks": given, "note": "VPN", "reason": "new"}
        )
        assert answer.status_code == 200, answer.text
        edited = answer.json()["binding"]
        sources = {each["network"]: each["source"] for each in edited["networks"]}
        assert sources == {
            HOME: "first_use", "10.1.2.0/24": "operator", "198.51.100.0/24": "operator", "2001:db8::/32": "operator",
        }  # fmt: skip
        assert (edited["note"], answer.headers["etag"]) == ("VPN", f'"{edited["version"]}"')
        entry = await entry_of(redis_url, key)
        assert {bound.network.text for bound in entry.networks} == set(sources)
        [row] = await audit_of(pg, binding_id)
        assert json.loads(row["before"])["networks"] == [HOME, "192.0.2.1/32"]
        assert (row["action"], row["reason"]) == ("binding:networks", "new")


async def test_networks_that_an_operator_names_no_longer_expire(api, admin_dsn):
    """Naming a network that runs out tomorrow means that it shall stay."""
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, new_key(), HOME)
        await pg.execute("UPDATE binding_network SET expires_at = now() + interval '1 day'")
    answer = (await api.put("/bindings/ip", json={"id": binding_id, "networks": [HOME]})).json()
    assert (answer["outcome"], answer["binding"]["networks"][0]["expires_at"]) == ("done", None)


async def test_a_network_for_a_while_ends_and_those_beside_it_stay(api, admin_dsn, redis_url):
    """Gateways are told its end; naming it as a text makes it stay, and the audit has both."""
    key, end = new_key(), "2099-01-01T00:00:00Z"
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, key, HOME)
        body = {"id": binding_id, "networks": [HOME, {"network": "198.51.100.9", "expires_at": end}]}
        answer = await api.put("/bindings/ip", json=body)
        assert answer.status_code == 200, answer.text
        ends = {each["network"]: each["expires_at"] for each in answer.json()["binding"]["networks"]}
        assert ends == {HOME: None, "198.51.100.9/32": end}
        assert (await api.put("/bindings/ip", json=body)).json()["outcome"] == "unchanged"
        entry = await entry_of(redis_url, key)
        assert {bound.network.text: bound.expires_at for bound in entry.networks} == {
            HOME: None, "198.51.100.9/32": datetime.fromisoformat(end).timestamp(),
        }  # fmt: skip
        answer = await api.put("/bindings/ip", json={"id": binding_id, "networks": [HOME, "198.51.100.9"]})
        assert [each["expires_at"] for each in answer.json()["binding"]["networks"]] == [None, None]
        before = json.loads((await audit_of(pg, binding_id))[-1]["before"])
        assert list(before["network_ends"]) == ["198.51.100.9/32"]


async def test_what_stays_for_good_is_not_shortened_by_a_larger_network_that_ends(api, admin_dsn):
    """And what ends is left out where it lies inside of what stays; an end in the past is refused."""
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, new_key(), HOME)
    end, later = "2098-01-01T00:00:00Z", "2099-01-01T00:00:00Z"
    given = [
        "203.0.113.7",
        {"network": "203.0.113.0/24", "expires_at": end},
        {"network": "203.0.113.0/24", "expires_at": later},
        "198.51.100.0/24",
        {"network": "198.51.100.9", "expires_at": end},
    ]
    answer = await api.put("/bindings/ip", json={"id": binding_id, "networks": given})
    ends = {each["network"]: each["expires_at"] for each in answer.json()["binding"]["networks"]}
    assert ends == {"203.0.113.7/32": None, "203.0.113.0/24": later, "198.51.100.0/24": None}
    past = {"network": "192.0.2.1", "expires_at": "2001-01-01T00:00:00Z"}
    answer = await api.put("/bindings/ip", json={"id": binding_id, "networks": [HOME, past]})
    assert (answer.status_code, answer.json()["faults"][0]["field"]) == (400, "networks[1].expires_at")


async def test_host_bits_are_answered_with_the_network_that_it_would_be(api, admin_dsn):
    """Each faulty entry is named by its place, and nothing is changed."""
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, new_key(), HOME)
    networks = [
        "203.0.113.7/24",
        "198.51.100.0/24",
        "2001:db8::1/32",
        "nowhere",
        "10.0.0.0/255.0.0.0",
        "1.2.3.4/33",
        "fe80::1%eth0/128",
    ]
    answer = await api.put("/bindings/ip", json={"id": binding_id, "networks": networks})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    faults = {fault["field"]: fault["detail"] for fault in answer.json()["faults"]}
    assert list(faults) == [f"networks[{n}]" for n in (0, 2, 3, 4, 5, 6)]
    assert "203.0.113.0/24" in faults["networks[0]"]
    assert "2001:db8::/32" in faults["networks[2]"]
    assert (await shown(api, binding_id))["network_count"] == 1


async def test_ten_thousand_networks_are_taken_and_no_more_and_not_none(api, admin_dsn, redis_url):
    """The whole list reaches gateways; an empty one is refused, since nobody could use the key."""
    key = new_key()
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, key, HOME)
    networks = [f"10.{n // 256}.{n % 256}.0/25" for n in range(10_000)]
    answer = await api.put("/bindings/ip", json={"id": binding_id, "networks": networks})
    assert (answer.status_code, answer.json()["binding"]["network_count"]) == (200, 10_000)
    assert len((await entry_of(redis_url, key)).networks) == 10_000
    for refused in ([], [*networks, "192.0.2.0/24"]):
        assert (await api.put("/bindings/ip", json={"id": binding_id, "networks": refused})).status_code == 400


async def test_a_stale_edit_is_refused_with_the_version_that_is_there(api, admin_dsn):
    """By ``version`` or by If-Match; the current one goes through, and so does an edit that names none."""
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, new_key(), HOME)
    read = await shown(api, binding_id)
    await api.put("/bindings/note", json={"id": binding_id, "note": "somebody else's"})
    now = (await shown(api, binding_id))["version"]
    edit = {"id": binding_id, "networks": ["192.0.2.0/24"]}
    for body, headers in (
        (edit | {"version": read["version"]}, {}),
        (edit, {"if-match": f'"{read["version"]}"'}),
    ):
        stale = await api.put("/bindings/ip", json=body, headers=headers)
        assert (stale.status_code, stale.json()["code"]) == (409, "stale_version")
        assert stale.json()["extra"] == {"version": now}
    for wrong in ("abc", '"1', "", "²"):
        headers = {"if-match": wrong.encode()}
        assert (await api.put("/bindings/ip", json=edit | {"version": now}, headers=headers)).status_code == 400, wrong
    current = await api.put("/bindings/ip", json=edit, headers={"if-match": f'"{now}"'})
    assert current.status_code == 200
    for headers in ({}, {"if-match": "*"}):
        note = await api.put("/bindings/note", json={"id": binding_id, "note": f"any {len(headers)}"}, headers=headers)
        assert note.json()["outcome"] == "done"
    missing = await api.put("/bindings/note", json={"id": 10**15, "note": ""})
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


async def test_of_edits_that_race_one_wins_and_the_others_learn_that_they_are_stale(api, admin_dsn):
    """Nobody overwrites what they have not seen."""
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, new_key(), HOME)
        version = (await shown(api, binding_id))["version"]
        answers = await asyncio.gather(*(
            api.put("/bindings/ip", json={"id": binding_id, "networks": [f"10.0.{n}.0/24"], "version": version})
            for n in range(6)
        ))  # fmt: skip
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409, 409]
        [winner] = [answer for answer in answers if answer.status_code == 200]
        assert winner.json()["binding"] == await shown(api, binding_id)
        assert len(await audit_of(pg, binding_id)) == 1


async def test_writes_that_cross_each_other_end_in_one_state_everywhere(api, admin_dsn, redis_url):
    """Bulk writes over the same ids in opposite orders never deadlock, and Redis ends with the latest version."""
    keys = [new_key() for _ in range(12)]
    async with connected(admin_dsn) as pg:
        ids = [await bind(pg, key, HOME) for key in keys]
    answers = await asyncio.gather(*(
        api.post(f"/bindings/{'ban' if n % 2 else 'unban'}", json={"ids": ids[:: 1 if n % 3 else -1], "reason": str(n)})
        for n in range(12)
    ))  # fmt: skip
    assert {answer.status_code for answer in answers} == {200}
    for key, binding_id in zip(keys, ids, strict=True):
        row, entry = await shown(api, binding_id), await entry_of(redis_url, key)
        assert (entry.version, entry.status.value) == (row["version"], row["status"])


async def test_mode_is_set_for_many_and_reaches_gateways(api, admin_dsn, redis_url):
    """``inherit`` takes the override away."""
    key = new_key()
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, key, HOME)
    for mode, expected in (("observe", Mode.OBSERVE), ("enforce", Mode.ENFORCE), ("inherit", None)):
        await api.put("/bindings/mode", json={"ids": [binding_id], "mode": mode})
        assert (await entry_of(redis_url, key)).mode is expected
    assert (await api.put("/bindings/mode", json={"ids": [binding_id], "mode": "off"})).status_code == 400


async def test_without_redis_a_write_stands_and_is_told_later(own_stores):
    """The answer says that it is not published; once Redis is back, gateways read the latest state, tombstones too."""
    keys = [new_key(), new_key()]
    async with connected(own_stores.pg_dsn) as pg:
        ban_id, unbind_id = [await bind(pg, key, HOME) for key in keys]
        token = await admin.token_for(own_stores.pg_dsn, "root", "admin")
        with admin.running_admin(own_stores.pg_dsn, own_stores.redis_url) as server:
            async with admin.client(server.url, token) as api:
                await api.put("/bindings/mode", json={"ids": [ban_id, unbind_id], "mode": "enforce"})
                own_stores.valkey.pause()
                banned = await api.post("/bindings/ban", json={"ids": [ban_id]})
                unbound = await api.post("/bindings/unbind", json={"ids": [unbind_id]})
                for answer in (banned, unbound):
                    assert answer.status_code == 200, answer.text
                    assert (answer.json()["results"][0]["outcome"], answer.json()["published"]) == ("done", False)
                assert await pg.fetchval("SELECT status FROM binding WHERE id = $1", ban_id) == "banned"
                own_stores.valkey.resume()

                async def told():
                    entries = [await entry_of(own_stores.redis_url, key) for key in keys]
                    return entries[0].is_banned(0) and entries[1] is None

                await eventually_async(told)
