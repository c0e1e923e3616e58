"""What would happen to a request: the gateways' own verdict, told with its rule, in both modes."""

import json

import pytest

from tests.admin_api.binding_rows import LONG_AGO, bind, connected, new_key

pytestmark = pytest.mark.anyio

HOME, ELSEWHERE = "203.0.113.7", "198.51.100.9"
ELSEWHERE_REFUSED = ("refuse", "key_bound_to_other_address", 403)


async def decide(api, **asked):
    answer = await api.post("/decide", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def told(decision):
    return (decision["verdict"], decision["rule"], decision["status"])


async def store_settings(pg, **values):
    await pg.execute(
        'INSERT INTO runtime_setting (version, "values", changed_by)'
        " SELECT coalesce(max(version), 0) + 1, $1, 'test' FROM runtime_setting",
        json.dumps(values),
    )


async def test_the_owner_passes_and_a_stranger_is_refused_or_observed(api, admin_dsn):
    """By key and by id alike; the network that let the owner through is named."""
    key = new_key()
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, key, f"{HOME}/32")
    for who in ({"key": key}, {"binding_id": binding_id}):
        home = await decide(api, address=HOME, **who)
        assert told(home["enforce"]) == told(home["observe"]) == ("allow", "network_bound", None)
        assert (home["network"], home["binding"]["id"], home["in_force"]) == (f"{HOME}/32", binding_id, "enforce")
        away = await decide(api, address=f"::ffff:{ELSEWHERE}", **who)
        assert (away["address"], away["network"]) == (ELSEWHERE, None)
        assert told(away["enforce"]) == ELSEWHERE_REFUSED
        assert told(away["observe"]) == ("observe", "key_bound_to_other_address", None)


async def test_a_ban_holds_in_both_modes_until_it_expires(api, admin_dsn):
    """Also for the owner's own address."""
    async with connected(admin_dsn) as pg:
        banned = await bind(pg, new_key(), f"{HOME}/32", status="banned")
        over = await bind(pg, new_key(), f"{HOME}/32", status="banned", ban_expires_at=LONG_AGO)
    answer = await decide(api, address=HOME, binding_id=banned)
    assert told(answer["enforce"]) == told(answer["observe"]) == ("refuse", "key_banned", 403)
    assert told((await decide(api, address=HOME, binding_id=over))["enforce"]) == ("allow", "network_bound", None)


async def test_the_stored_live_settings_count(api, admin_dsn):
    """Mode, room for further networks, and who may bind, as they are in PostgreSQL at this moment."""
    async with connected(admin_dsn) as pg:
        plain = await bind(pg, new_key(), f"{HOME}/32")
        strict = await bind(pg, new_key(), f"{HOME}/32", mode="enforce")
        await store_settings(pg, mode="observe")
        assert (await decide(api, address=ELSEWHERE, binding_id=plain))["in_force"] == "observe"
        assert (await decide(api, address=ELSEWHERE, binding_id=strict))["in_force"] == "enforce"
        await store_settings(pg, networks_per_key=2, bind_methods="generating")
        room = await decide(api, address=ELSEWHERE, binding_id=plain)
        assert told(room["enforce"]) == ("allow", "room_for_network", None)
        only_read = await decide(api, address=ELSEWHERE, binding_id=plain, method="get")
        assert told(only_read["enforce"]) == ("allow", "room_but_not_learned", None)
        for method, rule in (("POST", "first_use_binds"), ("GET", "first_use_passes")):
            unbound = await decide(api, address=HOME, key=new_key(), method=method)
            assert told(unbound["enforce"]) == told(unbound["observe"]) == ("allow", rule, None)
            assert unbound["binding"] is None


async def test_a_network_that_has_expired_does_not_count(api, admin_dsn):
    """Neither as the owner's nor as the reason of an allowance."""
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, new_key(), f"{HOME}/32", "192.0.2.1/32")
        await pg.execute(
            "UPDATE binding_network SET expires_at = $1 WHERE network = $2::text::cidr", LONG_AGO, f"{HOME}/32"
        )
    answer = await decide(api, address=HOME, binding_id=binding_id)
    assert (told(answer["enforce"]), answer["network"]) == (ELSEWHERE_REFUSED, None)


async def test_what_is_no_key_is_refused_as_the_gateway_refuses_it(api):
    """The answer is a verdict, not a fault: that is what was asked."""
    answer = await decide(api, address=HOME, key="sk-schlüssel")
    assert told(answer["enforce"]) == ("refuse", "invalid_api_key", 401)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"address": HOME}, 400),
        ({"address": HOME, "key": "sk-a", "binding_id": 1}, 400),
        ({"address": "203.0.113.0/24", "binding_id": 1}, 400),
        ({"address": "0.0.0.0", "binding_id": 1}, 400),
        ({"address": "²", "binding_id": 1}, 400),
        ({"address": HOME, "binding_id": 10**15}, 404),
        ({"address": HOME, "binding_id": 1, "method": "A B"}, 400),
        ({"binding_id": 1}, 400),
    ],
)
async def test_a_question_that_cannot_be_answered_is_refused(api, asked, status):
    """Either a key or a binding, and one address that a client can have."""
    assert (await api.post("/decide", json=asked)).status_code == status
