"""Sessions: renewed, listed, ended; a refresh token that is used twice; one's own password."""

import asyncio

import asyncpg
import httpx
import pytest

from tests.admin_api.conftest import AsRole
from tests.support import admin
from tests.support.admin import ADMIN_PASSWORD

pytestmark = pytest.mark.anyio

NEW_PASSWORD = "another correct horse"


async def sign_in(client: httpx.AsyncClient, password: str = ADMIN_PASSWORD, **headers: str) -> dict:
    answer = await client.post("/login", json={"password": password}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def bearer(signed_in: dict) -> dict[str, str]:
    return {"authorization": f"Bearer {signed_in['access_token']}"}


async def renew(client: httpx.AsyncClient, refresh_token: str) -> httpx.Response:
    return await client.post("/refresh", json={"refresh_token": refresh_token})


async def test_session_is_renewed(anonymous: httpx.AsyncClient) -> None:
    """The session stays the same, both tokens are new, and both access tokens work while they last."""
    first = await sign_in(anonymous)
    second = (await renew(anonymous, first["refresh_token"])).json()
    assert second["session_id"] == first["session_id"]
    assert second["refresh_token"] != first["refresh_token"]
    for each in (first, second):
        assert (await anonymous.get("/me", headers=bearer(each))).status_code == 200
    assert (await renew(anonymous, second["refresh_token"])).status_code == 200


async def test_refresh_token_that_is_used_twice_ends_the_session(anonymous: httpx.AsyncClient, admin_dsn: str) -> None:
    """Also when it was renewed several times since: whoever stole it may have been quick."""
    first = await sign_in(anonymous)
    second = (await renew(anonymous, first["refresh_token"])).json()
    third = (await renew(anonymous, second["refresh_token"])).json()
    answer = await renew(anonymous, first["refresh_token"])
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert (await renew(anonymous, third["refresh_token"])).status_code == 401
    assert (await anonymous.get("/me", headers=bearer(third))).status_code == 401
    rows = await fetch(admin_dsn, "SELECT action, subject_id, reason FROM admin_audit WHERE action = 'session:revoke'")
    assert [(row["action"], row["subject_id"]) for row in rows] == [("session:revoke", first["session_id"])]
    assert "second time" in rows[0]["reason"]


async def test_one_of_two_renewals_at_once_wins(anonymous: httpx.AsyncClient) -> None:
    first = await sign_in(anonymous)
    answers = await asyncio.gather(*(renew(anonymous, first["refresh_token"]) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [200, 401]


@pytest.mark.parametrize("token", ["x", "srt_", "srt_" + "A" * 64, "srt_ü", "{truncated}", "{swapped}"])
async def test_made_up_refresh_token_ends_nobodys_session(token: str, anonymous: httpx.AsyncClient) -> None:
    signed_in = await sign_in(anonymous)
    own = signed_in["refresh_token"]
    forged = {"{truncated}": own[:-4], "{swapped}": own[:40] + "AAAA" + own[44:]}.get(token, token)
    answer = await renew(anonymous, forged)
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert (await renew(anonymous, own)).status_code == 200


async def test_refresh_ends_with_session_and_operator(anonymous: httpx.AsyncClient, admin_dsn: str) -> None:
    for statement in (
        "UPDATE admin_session SET expires_at = now()",
        "UPDATE admin_session SET revoked_at = now()",
        "UPDATE admin_user SET disabled = true",
    ):
        signed_in = await sign_in(anonymous)
        await fetch(admin_dsn, statement)
        assert (await renew(anonymous, signed_in["refresh_token"])).status_code == 401, statement
    answer = await anonymous.post("/login", json={"password": ADMIN_PASSWORD})
    assert answer.json()["code"] == "wrong_credentials"


async def test_secrets_lie_nowhere(
    anonymous: httpx.AsyncClient, admin_dsn: str, admin_server: admin.AdminServer
) -> None:
    """Neither password nor tokens are in the tables or in the log."""
    signed_in = await sign_in(anonymous)
    await anonymous.post("/login", json={"password": "a wrong password"})
    rows = await fetch(admin_dsn, "SELECT to_jsonb(u)::text AS row FROM admin_user u")
    rows += await fetch(admin_dsn, "SELECT to_jsonb(s)::text AS row FROM admin_session s")
    rows += await fetch(admin_dsn, "SELECT to_jsonb(a)::text AS row FROM admin_audit a")
    written = admin_server.log_text() + "".join(row["row"] for row in rows)
    for secret in (ADMIN_PASSWORD, "a wrong password", signed_in["refresh_token"], signed_in["access_token"]):
        assert secret not in written


async def test_logout_ends_this_session_only(anonymous: httpx.AsyncClient) -> None:
    one, other = await sign_in(anonymous), await sign_in(anonymous)
    assert (await anonymous.post("/logout", headers=bearer(one))).status_code == 204
    assert (await anonymous.get("/me", headers=bearer(one))).status_code == 401
    assert (await renew(anonymous, one["refresh_token"])).status_code == 401
    assert (await anonymous.get("/me", headers=bearer(other))).status_code == 200


async def test_own_sessions_are_listed_and_ended(anonymous: httpx.AsyncClient) -> None:
    """With where they come from; ending one twice changes nothing."""
    elsewhere = await sign_in(anonymous, **{"x-real-ip": "2001:db8::1", "user-agent": "telephone"})
    here = await sign_in(anonymous)
    items = (await anonymous.get("/sessions", headers=bearer(here))).json()["items"]
    assert [(item["address"], item["current"]) for item in items] == [(admin.ADDRESS, True), ("2001:db8::1", False)]
    assert items[1]["user_agent"] == "telephone"
    for _ in range(2):
        answer = await anonymous.delete(f"/sessions/{elsewhere['session_id']}", headers=bearer(here))
        assert answer.status_code == 204
    assert (await anonymous.get("/me", headers=bearer(elsewhere))).status_code == 401
    assert len((await anonymous.get("/sessions", headers=bearer(here))).json()["items"]) == 1


async def test_sessions_of_others_are_for_administrators(anonymous: httpx.AsyncClient, as_role: AsRole) -> None:
    """To anybody else, somebody else's session is not there."""
    signed_in = await sign_in(anonymous)
    viewer, root = await as_role("viewer"), await as_role("admin")
    path, query = f"/sessions/{signed_in['session_id']}", {"operator_id": signed_in["operator"]["id"]}
    assert (await viewer.delete(path)).status_code == 404
    assert (await viewer.get("/sessions", params=query)).status_code == 403
    assert len((await root.get("/sessions", params=query)).json()["items"]) == 1
    assert (await root.delete(path)).status_code == 204
    assert (await anonymous.get("/me", headers=bearer(signed_in))).status_code == 401


async def test_sessions_of_one_operator_are_bounded(anonymous: httpx.AsyncClient, admin_dsn: str) -> None:
    """With one more than a hundred, the one that was not used for longest ends."""
    oldest = await sign_in(anonymous)
    await fetch(
        admin_dsn,
        "INSERT INTO admin_session (id, user_id, refresh_hash, expires_at) SELECT gen_random_uuid(), user_id, "
        "decode(md5(n::text), 'hex'), expires_at FROM admin_session, generate_series(1, 99) n",
    )
    assert (await anonymous.get("/me", headers=bearer(oldest))).status_code == 200
    newest = await sign_in(anonymous)
    assert len((await anonymous.get("/sessions", headers=bearer(newest))).json()["items"]) == 100
    assert (await anonymous.get("/me", headers=bearer(newest))).status_code == 200


async def test_own_password_needs_the_old_one_and_ends_other_sessions(anonymous: httpx.AsyncClient) -> None:
    one, other = await sign_in(anonymous), await sign_in(anonymous)
    change = {"old_password": "not the old one", "new_password": NEW_PASSWORD}
    answer = await anonymous.put("/me/password", json=change, headers=bearer(one))
    assert (answer.status_code, answer.json()["code"]) == (401, "wrong_credentials")
    change["old_password"] = ADMIN_PASSWORD
    assert (await anonymous.put("/me/password", json=change, headers=bearer(one))).status_code == 204
    assert (await anonymous.get("/me", headers=bearer(one))).status_code == 200
    assert (await anonymous.get("/me", headers=bearer(other))).status_code == 401
    assert (await anonymous.post("/login", json={"password": ADMIN_PASSWORD})).status_code == 401
    await sign_in(anonymous, NEW_PASSWORD)


@pytest.mark.parametrize("password", ["short", "elevenchars", "aaaaaaaaaaaaaa", "x" * 1025])
async def test_weak_password_is_refused(password: str, anonymous: httpx.AsyncClient) -> None:
    signed_in = await sign_in(anonymous)
    change = {"old_password": ADMIN_PASSWORD, "new_password": password}
    answer = await anonymous.put("/me/password", json=change, headers=bearer(signed_in))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")


async def test_old_password_cannot_be_guessed_with_a_stolen_session(anonymous: httpx.AsyncClient) -> None:
    signed_in = await sign_in(anonymous)
    change = {"old_password": "a guess of some", "new_password": NEW_PASSWORD}
    statuses = [
        (await anonymous.put("/me/password", json=change, headers=bearer(signed_in))).status_code for _ in range(9)
    ]
    assert statuses == [401] * 8 + [429]


async def fetch(dsn: str, statement: str) -> list:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()
