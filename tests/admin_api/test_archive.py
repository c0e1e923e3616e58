"""The archive: what was unbound, listed and restored, unless somebody owns the key by now."""

import pytest

from tests.admin_api.binding_rows import audit_of, bind, bind_many, connected, entry_of, identity, new_key

pytestmark = pytest.mark.anyio

HOME = "203.0.113.7/32"


async def unbound(api, *ids):
    """The archive's ids of these bindings, in their order."""
    answer = await api.post("/bindings/unbind", json={"ids": list(ids)})
    assert {result["outcome"] for result in answer.json()["results"]} == {"done"}
    items = (await api.get("/archive", params={"limit": 200, "restored": False})).json()["items"]
    of = {item["binding_id"]: item["id"] for item in items}
    return [of[id_] for id_ in ids]


async def restored(api, *ids):
    answer = await api.post("/archive/restore", json={"ids": list(ids), "reason": "mistake"})
    assert answer.status_code == 200, answer.text
    return [result["outcome"] for result in answer.json()["results"]]


async def test_a_restored_binding_is_what_it_was(api, admin_dsn, redis_url):
    """Same id, networks with their history, counts, note and mode; a new version, which gateways have at once."""
    key = new_key()
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, key, HOME, "2001:db8::/64", note="n", mode="observe", request_count=7)
        before = (await api.get(f"/bindings/{binding_id}")).json()
        [archive_id] = await unbound(api, binding_id)
        assert await restored(api, archive_id) == ["done"]
        after = (await api.get(f"/bindings/{binding_id}")).json()
        assert after["version"] > before["version"]
        assert after | {"version": 0} == before | {"version": 0}
        entry = await entry_of(redis_url, key)
        assert (entry.version, [bound.network.text for bound in entry.networks]) == (
            after["version"], [HOME, "2001:db8::/64"],
        )  # fmt: skip
        rows = await audit_of(pg, binding_id)
        assert [(row["action"], row["reason"]) for row in rows][-1] == ("binding:restore", "mistake")
    assert await restored(api, archive_id, 10**15) == ["unchanged", "not_found"]


async def test_a_key_that_somebody_owns_by_now_keeps_its_owner(api, admin_dsn):
    """The archived binding stays in the archive; of two archived ones of a key the later is restored."""
    key = new_key()
    async with connected(admin_dsn) as pg:
        [first] = await unbound(api, await bind(pg, key, HOME))
        [second] = await unbound(api, await bind(pg, key, "192.0.2.1/32"))
        owner = await bind(pg, key, "198.51.100.9/32")
        assert await restored(api, first, second) == ["conflict", "conflict"]
        await unbound(api, owner)
        assert await restored(api, first, second) == ["conflict", "done"]
    found = (await api.post("/bindings/lookup", json={"key": key})).json()
    assert ([each["network"] for each in found["binding"]["networks"]], found["archived"]) == (["192.0.2.1/32"], 3)


async def test_what_fell_out_of_use_is_not_archived_again_at_once(api, admin_dsn):
    """Restoring counts as a use."""
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, new_key(), HOME)
        [archive_id] = await unbound(api, binding_id)
        await pg.execute("UPDATE binding_archive SET cause = 'unused'")
        await restored(api, archive_id)
        assert await pg.fetchval("SELECT last_used_at > now() - interval '1 hour' FROM binding")


async def test_the_archive_is_listed_in_pages_and_filtered(api, admin_dsn):
    """Latest first; by fingerprint, by how the hint begins, by whether it was restored."""
    key = new_key()
    async with connected(admin_dsn) as pg:
        mine = await bind(pg, key, HOME, *[f"10.0.{n}.0/24" for n in range(20)])
        others = await bind_many(pg, 6)
        for id_ in (mine, *others):
            await unbound(api, id_)
    read, cursor = [], None
    while True:
        asked = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await api.get("/archive", params=asked)).json()
        read += page["items"]
        cursor = page["next"]
        if cursor is None:
            break
    assert [item["binding_id"] for item in read] == [*reversed(others), mine]
    assert (len(read[-1]["networks"]), read[-1]["network_count"]) == (10, 21)
    assert {(item["cause"], item["archived_by"]) for item in read} == {("unbound", "root")}
    known = identity(key)
    for asked in ({"fingerprint": known.fingerprint.hex()}, {"hint": known.hint}, {"hint": known.hint[:4]}):
        found = (await api.get("/archive", params=asked)).json()["items"]
        assert mine in [item["binding_id"] for item in found], asked
    await restored(api, read[0]["id"])
    assert [item["id"] for item in (await api.get("/archive", params={"restored": True})).json()["items"]] == [
        read[0]["id"]
    ]
    assert (await api.get("/archive", params={"fingerprint": "x"})).status_code == 400
