"""Before enforcing: what it would have refused, and whose address a gateway sees."""

import os

import pytest

from tests.admin_api.binding_rows import bind, identity, new_key
from tests.support import admin, databases

pytestmark = pytest.mark.anyio


async def observed(
    admin_pg, key: str, client: str, *, days_ago: float = 1, count: int = 1, reason: str = "key_bound_to_other_address"
) -> None:
    """A request of the key from there that passed in observe mode, ``count`` times."""
    known = identity(key)
    await admin_pg.execute(
        "INSERT INTO intercept (event_id, at, key_hash, key_hint, client, reason, enforced, method, path, user_agent, "
        "gateway, repeat_count) VALUES ($1, now() - $2 * interval '1 day', $3, $4, $5::text::inet, $6, false, 'POST', "
        "'/v1/chat/completions', '', 'gw', $7)",
        *(os.urandom(16), days_ago, known.fingerprint, known.hint, client, reason, count),
    )


async def impact(api, **query) -> dict:
    answer = await api.get("/settings/impact", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_nothing_observed_means_no_impact(api):
    found = await impact(api)
    assert (found["requests"], found["keys"], found["addresses"], found["most"]) == (0, 0, 0, [])
    assert found["estimated"] is False


async def test_requests_that_observe_mode_let_through_are_counted_by_key(api, admin_pg):
    busy, quiet = new_key(), new_key()
    busy_id = await bind(admin_pg, busy, "203.0.113.0/24", note="Alice")
    await bind(admin_pg, quiet, "203.0.113.0/24")
    await observed(admin_pg, busy, "198.51.100.1", count=40)
    await observed(admin_pg, busy, "198.51.100.2")
    await observed(admin_pg, quiet, "198.51.100.1")
    found = await impact(api)
    assert (found["requests"], found["keys"], found["addresses"]) == (42, 2, 2)
    first = found["most"][0]
    assert (first["binding_id"], first["note"], first["requests"], first["addresses"]) == (busy_id, "Alice", 41, 2)


async def test_what_would_pass_by_now_is_left_out(api, admin_pg):
    """The address was added since, the key observes on its own account, nobody owns it, it is too long ago."""
    added, lenient, unbound, old, expired = (new_key() for _ in range(5))
    await bind(admin_pg, added, "198.51.100.0/24")
    await bind(admin_pg, lenient, "203.0.113.0/24", mode="observe")
    await bind(admin_pg, old, "203.0.113.0/24")
    await bind(admin_pg, expired, "203.0.113.0/24")
    await admin_pg.execute(
        "INSERT INTO binding_network (binding_id, network, source, expires_at) "
        "SELECT id, '198.51.100.0/24', 'operator', now() - interval '1 hour' FROM binding WHERE key_hash = $1",
        identity(expired).fingerprint,
    )
    for key in (added, lenient, unbound):
        await observed(admin_pg, key, "198.51.100.1")
    await observed(admin_pg, old, "198.51.100.1", days_ago=8)
    await observed(admin_pg, expired, "198.51.100.1")
    found = await impact(api)
    assert [each["hint"] for each in found["most"]] == [identity(expired).hint]
    assert (await impact(api, days=9))["requests"] == 2


async def test_days_out_of_range_are_refused_and_viewers_may_look(api, as_role):
    assert (await api.get("/settings/impact", params={"days": 0})).status_code == 400
    viewer = await as_role("viewer")
    assert (await viewer.get("/settings/impact")).status_code == 200


@pytest.mark.parametrize(
    ("peer", "real_ip", "address", "trusted", "code"),
    [
        ("127.0.0.1", ["203.0.113.7"], "203.0.113.7", True, None),
        ("127.0.0.1", [], None, True, "client_address_unknown"),
        ("127.0.0.1", ["203.0.113.7", "203.0.113.8"], None, True, "client_address_unknown"),
        ("127.0.0.1", ["unknown\u00ff\u4e00"], None, True, "client_address_unknown"),
        ("192.0.2.1", ["203.0.113.7"], "192.0.2.1", False, None),
        ("::ffff:192.0.2.1", [], "192.0.2.1", False, None),
        ("nonsense", [], None, False, "client_address_unknown"),
    ],
)
async def test_an_address_is_derived_as_gateways_do(api, peer, real_ip, address, trusted, code):
    found = (await api.post("/address", json={"peer": peer, "real_ip": real_ip})).json()
    assert (found["address"], found["trusted"], found["code"]) == (address, trusted, code)
    assert found["trusted_proxies"] == ["127.0.0.1/32"]


async def test_without_proxies_the_peer_is_the_client(stores, migrated_template, redis_url):
    with (
        databases.fresh_database(stores.postgres, migrated_template) as dsn,
        admin.running_admin(dsn, redis_url, SENTINEL_TRUSTED_PROXIES="") as server,
    ):
        token = await admin.token_for(dsn, "root", "admin")
        async with admin.client(server.url, token) as api:
            found = (await api.post("/address", json={"peer": "127.0.0.1", "real_ip": ["203.0.113.7"]})).json()
        assert (found["address"], found["trusted"], found["trusted_proxies"]) == ("127.0.0.1", False, [])
