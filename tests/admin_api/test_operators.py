"""Operators: made, changed, removed by administrators, of whom one always remains."""

import asyncio
import json

import asyncpg
import httpx
import pytest

from tests.admin_api.conftest import AsRole
from tests.support import admin

pytestmark = pytest.mark.anyio

PASSWORD = "a password of some length"


async def add(api: httpx.AsyncClient, name: str = "mei", role: str = "operator") -> dict:
    answer = await api.post("/operators", json={"name": name, "role": role, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def sign_in(client: httpx.AsyncClient, name: str, password: str = PASSWORD) -> httpx.Response:
    return await client.post("/login", json={"name": name, "password": password})


async def test_operator_is_made_and_signs_in(api: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    """Whatever the case of the name; what they may do is what their role may."""
    made = await add(api, "Mei.Lin@example")
    assert (made["role"], made["disabled"], made["version"]) == ("operator", False, 1)
    answer = await sign_in(anonymous, "mei.lin@EXAMPLE")
    assert answer.status_code == 200
    assert "bindings:write" in answer.json()["operator"]["scopes"]
    assert "operators:write" not in answer.json()["operator"]["scopes"]


async def test_names_are_unique_whatever_their_case(api: httpx.AsyncClient) -> None:
    await add(api, "mei")
    answer = await api.post("/operators", json={"name": "MEI", "role": "viewer", "password": PASSWORD})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "x\n"},
        {"name": "a\0"},
        {"role": "root"},
        {"password": "short"},
        {"x": 1},
    ],
)
async def test_malformed_operator_is_bad_input(change: dict, api: httpx.AsyncClient) -> None:
    body = {"name": "mei", "role": "viewer", "password": PASSWORD} | change
    answer = await api.post("/operators", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")


async def test_list_is_paged(api: httpx.AsyncClient) -> None:
    """Each operator once, the oldest first; a cursor that is none is bad input."""
    for number in range(4):
        await add(api, f"op-{number}")
    names, query = [], {"limit": 2}
    while True:
        page = (await api.get("/operators", params=query)).json()
        names += [item["name"] for item in page["items"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert names == ["root", "op-0", "op-1", "op-2", "op-3"]
    assert (await api.get("/operators", params={"cursor": "x"})).status_code == 400
    assert "password_hash" not in page["items"][0]


async def test_change_needs_the_version_that_was_read(api: httpx.AsyncClient) -> None:
    """A stale one is refused with the version that is there; what is so already is no change."""
    made = await add(api)
    path = f"/operators/{made['id']}"
    changed = (await api.patch(path, json={"version": 1, "role": "viewer"})).json()
    assert (changed["role"], changed["version"]) == ("viewer", 2)
    stale = await api.patch(path, json={"version": 1, "role": "admin"})
    assert (stale.status_code, stale.json()["code"], stale.json()["extra"]) == (409, "stale_version", {"version": 2})
    repeated = await api.patch(path, json={"version": 1, "role": "viewer"})
    assert (repeated.status_code, repeated.json()["version"]) == (200, 2)


async def test_disabled_operator_is_out_at_once(api: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    made = await add(api)
    token = (await sign_in(anonymous, "mei")).json()["access_token"]
    headers = {"authorization": f"Bearer {token}"}
    await api.patch(f"/operators/{made['id']}", json={"version": 1, "disabled": True})
    assert (await anonymous.get("/me", headers=headers)).status_code == 401
    assert (await sign_in(anonymous, "mei")).status_code == 401
    await api.patch(f"/operators/{made['id']}", json={"version": 2, "disabled": False})
    assert (await anonymous.get("/me", headers=headers)).status_code == 401
    assert (await sign_in(anonymous, "mei")).status_code == 200


async def test_reset_password_ends_every_session(api: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    made = await add(api)
    token = (await sign_in(anonymous, "mei")).json()["access_token"]
    answer = await api.post(f"/operators/{made['id']}/password", json={"password": "some other password"})
    assert (answer.status_code, answer.json()["version"]) == (200, 2)
    assert (await anonymous.get("/me", headers={"authorization": f"Bearer {token}"})).status_code == 401
    assert (await sign_in(anonymous, "mei")).status_code == 401
    assert (await sign_in(anonymous, "mei", "some other password")).status_code == 200


async def test_removed_operator_is_gone(api: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    made = await add(api)
    token = (await sign_in(anonymous, "mei")).json()["access_token"]
    assert (await api.delete(f"/operators/{made['id']}")).status_code == 204
    assert (await anonymous.get("/me", headers={"authorization": f"Bearer {token}"})).status_code == 401
    assert (await api.delete(f"/operators/{made['id']}")).status_code == 404


@pytest.mark.parametrize("path", ["/operators/999999", f"/operators/{2**63 - 1}"])
async def test_operator_that_is_not_there_is_not_found(path: str, api: httpx.AsyncClient) -> None:
    assert (await api.delete(path)).status_code == 404
    assert (await api.patch(path, json={"version": 1, "disabled": True})).status_code == 404
    assert (await api.post(f"{path}/password", json={"password": PASSWORD})).status_code == 404


@pytest.mark.parametrize("path", ["/operators/0", f"/operators/{2**63}", "/operators/x"])
async def test_id_that_cannot_be_is_no_fault_of_the_server(path: str, api: httpx.AsyncClient) -> None:
    assert (await api.delete(path)).status_code in {400, 404}


@pytest.mark.parametrize("change", [{"role": "operator"}, {"disabled": True}, None])
async def test_last_administrator_remains(change: dict | None, api: httpx.AsyncClient, as_role: AsRole) -> None:
    """A disabled one does not count, nor do other roles."""
    await as_role("operator")
    disabled = await add(api, "second", "admin")
    await api.patch(f"/operators/{disabled['id']}", json={"version": 1, "disabled": True})
    own_id = (await api.get("/me")).json()["id"]
    path = f"/operators/{own_id}"
    answer = await (api.delete(path) if change is None else api.patch(path, json={"version": 1} | change))
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert (await api.get("/operators")).status_code == 200
    assert (await api.delete(f"/operators/{disabled['id']}")).status_code == 204


async def test_administrators_who_remove_each_other_at_once_leave_one(as_role: AsRole, admin_dsn: str) -> None:
    """Eight remove, demote and disable one another in a ring; all but the last of them succeed."""
    clients = [await as_role("admin") for _ in range(8)]
    ids = [(await client.get("/me")).json()["id"] for client in clients]

    async def attack(number: int) -> None:
        path = f"/operators/{ids[(number + 1) % 8]}"
        changes = [None, {"version": 1, "role": "viewer"}, {"version": 1, "disabled": True}]
        change = changes[number % 3]
        await (clients[number].delete(path) if change is None else clients[number].patch(path, json=change))

    await asyncio.gather(*(attack(number) for number in range(8)))
    connection = await asyncpg.connect(admin_dsn)
    left = await connection.fetchval("SELECT count(*) FROM admin_user WHERE role = 'admin' AND NOT disabled")
    await connection.close()
    assert left >= 1


async def test_every_change_is_audited(api: httpx.AsyncClient, admin_dsn: str) -> None:
    """With who, from where, before and after, and without any password or hash."""
    made = await add(api)
    path = f"/operators/{made['id']}"
    await api.patch(path, json={"version": 1, "role": "viewer"}, headers={"x-request-id": "r-1"})
    await api.post(f"{path}/password", json={"password": "some other password"})
    await api.delete(path)
    connection = await asyncpg.connect(admin_dsn)
    rows = await connection.fetch("SELECT * FROM admin_audit WHERE subject_id = $1 ORDER BY id", str(made["id"]))
    await connection.close()
    actions = [row["action"] for row in rows]
    assert actions == ["operator:add", "operator:edit", "operator:reset_password", "operator:remove"]
    edit = rows[1]
    assert (edit["actor"], str(edit["address"]), edit["request_id"]) == ("root", admin.ADDRESS, "r-1")
    assert json.loads(edit["before"])["role"] == "operator"
    assert json.loads(edit["after"])["role"] == "viewer"
    assert "argon2" not in str([dict(row) for row in rows])
