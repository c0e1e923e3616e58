"""Who may in: access tokens that are not ours or not valid any more, and what each role and scope may do."""

import time
from collections.abc import Callable
from typing import Any

import asyncpg
import httpx
import jwt
import pytest

from tests.admin_api.conftest import AsRole
from tests.support import admin
from tests.support.admin import JWT_SECRET

pytestmark = pytest.mark.anyio

Forge = Callable[[dict[str, Any]], str]


def signed(payload: dict[str, Any], secret: str = JWT_SECRET, algorithm: str = "HS256", **headers: str) -> str:
    return jwt.encode(payload, secret, algorithm=algorithm, headers=headers or None)


def without(name: str) -> Forge:
    return lambda good: signed({key: value for key, value in good.items() if key != name})


def altered(**changes: Any) -> Forge:
    return lambda good: signed(good | changes)


def truncated(good: dict[str, Any]) -> str:
    return signed(good)[:-5]


def payload_swapped(good: dict[str, Any]) -> str:
    head, _, signature = signed(good).split(".")
    return f"{head}.{signed(good | {'sub': '1'}).split('.')[1]}x.{signature}"


NOW = int(time.time())
FORGED: dict[str, Forge] = {
    "another secret": lambda good: signed(good, "another secret of more than thirty-two bytes"),
    "no signature": lambda good: jwt.encode(good, None, algorithm="none"),
    "another algorithm": lambda good: signed(good, algorithm="HS512", secret=JWT_SECRET * 2),
    "same secret, another algorithm": lambda good: signed(good, algorithm="HS384"),
    "expired": altered(exp=NOW - 3600, iat=NOW - 7200, nbf=NOW - 7200),
    "not yet valid": altered(nbf=NOW + 36_000, iat=NOW + 36_000, exp=NOW + 72_000),
    "wrong audience": altered(aud="sentinel"),
    "several audiences, not ours": altered(aud=["a", "b"]),
    "wrong issuer": altered(iss="somebody"),
    "no expiry": without("exp"),
    "no audience": without("aud"),
    "no session": without("sid"),
    "session that is none": altered(sid="x"),
    "session that never was": altered(sid="5b1f0c2e-9a7d-48f3-8e1b-0a9c8d7e6f50"),
    "another operator's session": altered(sub="999999"),
    "operator that is no number": altered(sub="admin"),
    "truncated": truncated,
    "payload swapped": payload_swapped,
    "our secret named by kid": lambda good: signed(good, "x" * 32, kid="../../dev/null"),
    "a key of its own by jku": lambda good: signed(good, "x" * 32, jku="http://127.0.0.1:9/keys", jwk="{}"),
    "not a token": lambda _good: "abc",
    "endless": lambda good: signed(good) + "A" * 8000,
}


@pytest.fixture
async def good(admin_url: str, admin_dsn: str) -> dict[str, Any]:
    """What a valid token of an administrator says."""
    token = await admin.token_for(admin_dsn, "root", "admin")
    payload: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return payload


@pytest.mark.parametrize("name", FORGED)
async def test_token_that_is_not_ours_is_refused(name: str, good: dict[str, Any], admin_url: str) -> None:
    async with admin.client(admin_url, FORGED[name](good)) as client:
        answer = await client.get("/me")
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


async def test_headers_of_a_token_choose_nothing(good: dict[str, Any], admin_url: str) -> None:
    """One that is signed by us is good, whatever key it names: `kid` and `jku` are not looked at."""
    token = signed(good, kid="another", jku="http://127.0.0.1:9/keys")
    async with admin.client(admin_url, token) as client:
        assert (await client.get("/me")).status_code == 200


async def test_revoked_session_is_refused_at_once(good: dict[str, Any], admin_url: str, admin_dsn: str) -> None:
    async with admin.client(admin_url, signed(good)) as client:
        assert (await client.get("/me")).status_code == 200
        await execute(admin_dsn, "UPDATE admin_session SET revoked_at = now()")
        assert (await client.get("/me")).status_code == 401


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic YTpi", "{token}", "Bearer sst_unknown"])
async def test_nothing_is_answered_without_a_token(header: str | None, good: dict[str, Any], admin_url: str) -> None:
    """A problem document says how to sign in."""
    headers = {} if header is None else {"authorization": header.replace("{token}", signed(good))}
    async with admin.client(admin_url) as client:
        answer = await client.get("/me", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"


WRITES = [
    ("POST", "/operators", {"name": "x", "role": "viewer", "password": "a long password"}),
    ("PATCH", "/operators/1", {"version": 1, "role": "viewer"}),
    ("POST", "/operators/1/password", {"password": "a long password"}),
    ("DELETE", "/operators/1", None),
    ("POST", "/tokens", {"name": "x", "scopes": ["bindings:read"]}),
    ("DELETE", "/tokens/1", None),
    ("GET", "/operators", None),
    ("GET", "/tokens", None),
]


@pytest.mark.parametrize("role", ["viewer", "operator"])
@pytest.mark.parametrize(("method", "path", "body"), WRITES)
async def test_only_administrators_reach_operators_and_tokens(
    role: str, method: str, path: str, body: dict[str, Any] | None, as_role: AsRole
) -> None:
    """The answer names the scope that is missing."""
    client = await as_role(role)
    answer = await client.request(method, path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
    resource = path.split("/")[1]
    assert answer.json()["extra"]["scope"] == f"{resource}:{'read' if method == 'GET' else 'write'}"


async def test_role_is_looked_up_on_each_request(api: httpx.AsyncClient, admin_dsn: str) -> None:
    """Somebody who is demoted has lost the rights with the next request, without signing in again."""
    assert (await api.get("/operators")).status_code == 200
    await execute(admin_dsn, "UPDATE admin_user SET role = 'viewer'")
    assert (await api.get("/operators")).status_code == 403


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_document_tells_what_to_send_and_every_error(admin_url: str) -> None:
    """Each route has a summary and says how it refuses; all but two want a bearer token."""
    async with admin.client(admin_url) as client:
        document = (await client.get("/openapi/openapi.json")).json()
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert document["security"] == [{"bearer": []}]
    without_token = set()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            place = f"{method} {path}"
            assert operation["summary"], place
            assert {"400", "401", "503"} <= operation["responses"].keys(), place
            refused = operation["responses"]["401"]["content"]["application/problem+json"]
            assert refused["schema"] == {"$ref": "#/components/schemas/Problem"}, place
            assert next(iter(refused["examples"].values()))["value"]["code"], place
            if operation.get("security") == [{}]:
                without_token.add(path)
    assert without_token == {"/admin/api/login", "/admin/api/refresh"}
