"""Service tokens: shown once, bound to scopes, time and networks, and never reaching further than their maker."""

from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import pytest

from admin_api.actors import Scope
from tests.admin_api.conftest import AsRole
from tests.support import admin

pytestmark = pytest.mark.anyio

ALL = ["operators:read", "operators:write", "tokens:read", "tokens:write", "bindings:read"]


async def make(client: httpx.AsyncClient, scopes: list[str], **more: object) -> httpx.Response:
    return await client.post("/tokens", json={"name": "deploy", "scopes": scopes} | more)


def of(admin_url: str, answer: httpx.Response, address: str = admin.ADDRESS) -> httpx.AsyncClient:
    assert answer.status_code == 201, answer.text
    return admin.client(admin_url, answer.json()["token"], address=address)


def later(**more: float) -> str:
    return (datetime.now(UTC) + timedelta(**more)).isoformat()


async def test_token_is_shown_once_and_kept_as_a_hash(api: httpx.AsyncClient, admin_dsn: str) -> None:
    answer = await make(api, ["tokens:read", "bindings:read"])
    token, description = answer.json()["token"], answer.json()["description"]
    assert token.startswith("sst_")
    assert len(token) == 4 + 43
    assert description["scopes"] == ["bindings:read", "tokens:read"]
    assert token.startswith(description["hint"])
    assert token not in (await api.get("/tokens")).text
    connection = await asyncpg.connect(admin_dsn)
    lying = await connection.fetchval("SELECT string_agg(to_jsonb(t)::text, '') FROM service_token t")
    lying += await connection.fetchval("SELECT string_agg(to_jsonb(a)::text, '') FROM admin_audit a")
    await connection.close()
    assert token not in lying


async def test_token_says_who_it_is_and_was_used(api: httpx.AsyncClient, admin_url: str) -> None:
    async with of(admin_url, await make(api, ["bindings:read"])) as script:
        me = (await script.get("/me")).json()
    assert (me["kind"], me["name"], me["role"], me["scopes"]) == ("token", "deploy", None, ["bindings:read"])
    assert (await api.get("/tokens")).json()["items"][0]["used_at"] is not None


async def test_token_cannot_exceed_its_scopes(api: httpx.AsyncClient, admin_url: str) -> None:
    """Whoever made it."""
    async with of(admin_url, await make(api, ["tokens:read"])) as script:
        assert (await script.get("/tokens")).status_code == 200
        for answer in (await make(script, ["tokens:read"]), await script.get("/operators")):
            assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")


async def test_token_cannot_have_what_its_maker_has_not(api: httpx.AsyncClient, admin_url: str) -> None:
    async with of(admin_url, await make(api, ["tokens:write", "bindings:read"])) as script:
        answer = await make(script, ["bindings:read", "operators:write"])
        assert (answer.status_code, answer.json()["extra"]) == (403, {"scope": "operators:write"})
        assert (await make(script, ["bindings:read"])).status_code == 201


async def test_token_makes_none_that_lives_longer_or_elsewhere(api: httpx.AsyncClient, admin_url: str) -> None:
    limits = {"expires_at": later(hours=1), "networks": ["198.51.100.0/24", "2001:db8::/32"]}
    async with of(admin_url, await make(api, ["tokens:write"], **limits)) as script:
        inside = {"expires_at": later(minutes=5), "networks": ["198.51.100.7/32", "2001:db8:1::/48"]}
        assert (await make(script, ["tokens:write"], **inside)).status_code == 201
        for change in (
            {"expires_at": None},
            {"expires_at": later(hours=2)},
            {"networks": []},
            {"networks": ["198.51.0.0/16"]},
            {"networks": ["203.0.113.1/32"]},
        ):
            assert (await make(script, ["tokens:write"], **inside | change)).status_code == 403, change


async def test_token_is_good_from_its_networks_only(api: httpx.AsyncClient, admin_url: str) -> None:
    answer = await make(api, ["tokens:read"], networks=["203.0.113.0/24", "2001:db8::/32"])
    for address, status in (
        ("203.0.113.9", 200),
        ("2001:db8:5::1", 200),
        ("::ffff:203.0.113.9", 200),
        ("203.0.114.9", 401),
        ("2001:db9::1", 401),
        ("no address", 401),
    ):
        async with of(admin_url, answer, address) as script:
            assert (await script.get("/tokens")).status_code == status, address


async def test_revoked_and_expired_tokens_are_worth_nothing(
    api: httpx.AsyncClient, admin_url: str, admin_dsn: str
) -> None:
    """Revoking twice changes nothing; both stay in the list."""
    revoked, expired = await make(api, ["tokens:read"]), await make(api, ["tokens:read"], expires_at=later(hours=1))
    async with of(admin_url, revoked) as one, of(admin_url, expired) as other:
        for script in (one, other):
            assert (await script.get("/tokens")).status_code == 200
        for _ in range(2):
            assert (await api.delete(f"/tokens/{revoked.json()['description']['id']}")).status_code == 204
        connection = await asyncpg.connect(admin_dsn)
        await connection.execute("UPDATE service_token SET expires_at = now() WHERE expires_at IS NOT NULL")
        actions = await connection.fetch("SELECT action FROM admin_audit WHERE subject_kind = 'token' ORDER BY id")
        await connection.close()
        for script in (one, other):
            assert (await script.get("/tokens")).status_code == 401
    assert [row["action"] for row in actions] == ["token:add", "token:add", "token:revoke"]
    assert len((await api.get("/tokens")).json()["items"]) == 2
    assert (await api.delete("/tokens/999999")).status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        {"scopes": []},
        {"scopes": ["everything"]},
        {"networks": ["203.0.113.1/24"]},
        {"networks": ["nonsense"]},
        {"expires_at": "2001-01-01T00:00:00Z"},
        {"expires_at": "0001-01-01T00:00:00+23:59"},
        {"expires_at": "9999-12-31T23:59:59-23:59"},
        {"expires_at": "2999-01-01T00:00:00"},
        {"expires_at": "2999-01-01T00:00:00Z"},
        {"name": ""},
        {"name": "a\0b"},
        {"unknown": 1},
    ],
)
async def test_malformed_token_is_bad_input(change: dict, api: httpx.AsyncClient) -> None:
    answer = await make(api, **{"scopes": ["bindings:read"]} | change)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")


async def test_tokens_set_no_passwords_and_touch_nobody_above_them(
    api: httpx.AsyncClient, admin_url: str, as_role: AsRole
) -> None:
    """Not even with `operators:write`: a way around its scopes, its networks and its end."""
    viewer, root = await as_role("viewer"), await as_role("admin")
    viewer_id, root_id = [(await client.get("/me")).json()["id"] for client in (viewer, root)]
    everything = [scope.value for scope in Scope]
    async with of(admin_url, await make(api, everything)) as script:
        new = {"name": "x", "role": "viewer", "password": "a long password"}
        for answer in (
            await script.post("/operators", json=new),
            await script.post(f"/operators/{viewer_id}/password", json={"password": "a long password"}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed"), answer.request.url
    async with of(admin_url, await make(api, ALL)) as script:
        for answer in (
            await script.patch(f"/operators/{root_id}", json={"version": 1, "disabled": True}),
            await script.delete(f"/operators/{root_id}"),
            await script.patch(f"/operators/{viewer_id}", json={"version": 1, "role": "admin"}),
            await script.put("/me/password", json={"old_password": "x", "new_password": "a long password"}),
            await script.post("/logout"),
            await script.get("/sessions"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed"), answer.request.url
        assert len((await script.get("/sessions", params={"operator_id": root_id})).json()["items"]) == 1


async def test_list_is_paged_newest_first(api: httpx.AsyncClient) -> None:
    for number in range(3):
        await make(api, ["bindings:read"], name=f"t-{number}")
    first = (await api.get("/tokens", params={"limit": 2})).json()
    second = (await api.get("/tokens", params={"limit": 2, "cursor": first["next"]})).json()
    assert [item["name"] for item in first["items"] + second["items"]] == ["t-2", "t-1", "t-0"]
    assert second["next"] is None
