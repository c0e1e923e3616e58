"""Bodies and times that nobody can read: each is the client's fault and told as one, and the server goes on."""

import json

import pytest

from tests.admin_api.binding_rows import bind, connected, new_key

pytestmark = pytest.mark.anyio

UNREADABLE = {
    "nested without end": b"[" * 50_000,
    "nested in a field": b'{"ids":' + b'[{"a":' * 8_000,
    "no UTF-8": b'{"key": "\xff\xfe", "name": "\xff", "reason": "\xff", "ids": [1]}',
    "half a surrogate pair": rb'{"key": "\ud800", "name": "\ud800", "reason": "\ud800", "ids": [1]}',
}
BEFORE_THE_CALENDAR, BEHIND_THE_CALENDAR = "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("path", ["/login", "/bindings/ban", "/bindings/lookup"])
async def test_a_body_that_cannot_be_read_is_the_clients_fault(api, path, body):
    answer = await api.post(path, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input"), answer.text


@pytest.mark.parametrize("path", ["/login", "/refresh"])
async def test_a_stranger_may_send_no_more_than_a_sign_in_takes(anonymous, path):
    answer = await anonymous.post(path, json={"name": "admin", "password": "x" * 70_000, "refresh_token": ""})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large"), answer.text


@pytest.mark.parametrize("name", ["used_from", "used_to"])
@pytest.mark.parametrize("moment", [BEFORE_THE_CALENDAR, BEHIND_THE_CALENDAR])
async def test_a_filter_by_a_time_that_utc_does_not_have_is_refused(api, name, moment):
    answer = await api.get("/bindings", params={name: moment})
    assert (answer.status_code, answer.json()["faults"][0]["field"]) == (400, name), answer.text


async def test_a_ban_until_a_time_that_utc_does_not_have_is_refused(api, admin_dsn):
    async with connected(admin_dsn) as pg:
        binding_id = await bind(pg, new_key(), "203.0.113.7/32")
    answer = await api.post("/bindings/ban", json={"ids": [binding_id], "expires_at": BEHIND_THE_CALENDAR})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input"), answer.text


@pytest.mark.parametrize("name", ["first_used_at", "last_used_at", "ban_expires_at"])
@pytest.mark.parametrize("dry_run", [True, False])
async def test_an_imported_time_that_utc_does_not_have_is_a_fault_of_its_line(api, name, dry_run):
    """Also in a dry run, and the lines around it are imported."""
    line = {"key": new_key(), "networks": ["203.0.113.7"], "status": "banned"}
    bad = line | {"key": new_key(), name: BEHIND_THE_CALENDAR}
    body = f"{json.dumps(bad)}\n{json.dumps(line)}".encode()
    report = (await api.post("/bindings/import", content=body, params={"dry_run": dry_run})).json()
    assert (report["created"], report["failed"], report["faults"][0]["line"]) == (1, 1, 1)


async def test_an_imported_network_until_a_time_that_utc_does_not_have_is_a_fault_of_its_line(api):
    line = {"key": new_key(), "networks": [{"network": "203.0.113.7", "expires_at": BEHIND_THE_CALENDAR}]}
    report = (await api.post("/bindings/import", content=json.dumps(line).encode())).json()
    assert (report["created"], report["failed"]) == (0, 1)
