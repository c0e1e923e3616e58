"""Targets over the API: their URLs and secrets are never shown again, edits are safe, and a test tells what happens."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from standardwebhooks import Webhook

from tests.admin_api.conftest import AsRole
from tests.support import admin, databases
from tests.support.alert_parts import new_alert
from tests.support.receivers import Receiver

pytestmark = pytest.mark.anyio

URL = "https://hooks.test/services/t0ken?key=k3y"
APPRISE = "feishu://t0ken12345"


@pytest.fixture
async def open_api(stores, migrated_template, redis_url) -> AsyncIterator[httpx.AsyncClient]:
    """An administrator of a server whose alerts may go to this machine."""
    with (
        databases.fresh_database(stores.postgres, migrated_template) as dsn,
        admin.running_admin(dsn, redis_url, SENTINEL_ALERT_PRIVATE_TARGETS="all") as server,
    ):
        async with admin.client(server.url, await admin.token_for(dsn, "root", "admin")) as client:
            yield client


async def make(api: httpx.AsyncClient, **given: object) -> httpx.Response:
    values = {"name": "on-call", "kind": "webhook", "url": URL, "events": ["key_intercepted"]}
    return await api.post("/alerts/targets", json=values | given)


async def test_a_webhooks_secret_is_shown_once_and_its_url_never(api: httpx.AsyncClient, admin_pg):
    made = await make(api, language="zh-CN")
    assert made.status_code == 201, made.text
    secret, target = made.json()["secret"], made.json()["target"]
    assert secret.startswith("whsec_")
    assert (target["url"], target["language"], target["enabled"]) == ("https://hooks.test/…", "zh-CN", True)
    assert [each["expires_at"] for each in target["secrets"]] == [None]
    apprise = await make(api, kind="apprise", url=APPRISE)
    assert (apprise.json()["secret"], apprise.json()["target"]["url"]) == (None, "feishu://…")
    everything = made.text.replace(secret, "") + apprise.text
    for path in ("/alerts/targets", f"/alerts/targets/{target['id']}", "/audit"):
        everything += (await api.get(path)).text
    for row in await admin_pg.fetch("SELECT to_jsonb(a)::text FROM admin_audit a"):
        everything += row[0]
    assert [word for word in ("t0ken", "k3y", secret) if word in everything] == []


async def test_no_url_reaches_the_log_or_a_problem(admin_server: admin.AdminServer, api: httpx.AsyncClient):
    told = ""
    for url in (URL.replace("https", "http"), "nonsense://t0ken", "https://127.0.0.1/t0ken", "https://h:99999/t0ken"):
        answer = await make(api, url=url, kind="apprise" if "nonsense" in url else "webhook")
        assert answer.status_code == 400, url
        told += answer.text
    made = (await make(api)).json()["target"]["id"]
    told += (await api.post(f"/alerts/targets/{made}/test")).text
    assert "t0ken" not in told + admin_server.log_text()


async def test_an_edit_changes_what_is_given_and_says_so_in_the_audit(api: httpx.AsyncClient, admin_pg):
    target = (await make(api)).json()["target"]
    path = f"/alerts/targets/{target['id']}"
    edited = (await api.patch(path, json={"version": 1, "events": ["store_outage"], "enabled": False})).json()
    assert (edited["events"], edited["enabled"], edited["disabled_because"], edited["version"]) == (
        ["store_outage"], False, "operator", 2,
    )  # fmt: skip
    assert edited["url"] == "https://hooks.test/…"
    stale = await api.patch(path, json={"version": 1, "name": "other"})
    assert (stale.status_code, stale.json()["code"], stale.json()["extra"]) == (409, "stale_version", {"version": 2})
    same = await api.patch(path, json={"version": 1, "enabled": False})
    assert (same.status_code, same.json()["version"]) == (200, 2)
    await api.patch(path, json={"version": 2, "url": "https://hooks.test/other", "enabled": True})
    assert await admin_pg.fetchval("SELECT url FROM alert_target") == "https://hooks.test/other"
    audit = await admin_pg.fetch(
        "SELECT action, before, after FROM admin_audit WHERE subject_kind = 'alert_target' ORDER BY id"
    )
    assert [row["action"] for row in audit] == ["alert_target:add", "alert_target:edit", "alert_target:edit"]
    assert [json.loads(row["before"])["enabled"] for row in audit[1:]] == [True, False]
    assert json.loads(audit[2]["after"])["url_changed"] is True


async def test_a_removed_target_gets_nothing_more_and_stays_in_the_history(api: httpx.AsyncClient, admin_pg):
    target = (await make(api)).json()["target"]["id"]
    alert = await new_alert(admin_pg)
    assert (await api.delete(f"/alerts/targets/{target}")).status_code == 204
    [delivery] = (await api.get(f"/alerts/{alert}")).json()["deliveries"]
    assert (delivery["target_id"], delivery["target_name"], delivery["state"]) == (None, "on-call", "dead")
    for answer in (await api.delete(f"/alerts/targets/{target}"), await api.get(f"/alerts/targets/{target}")):
        assert answer.status_code == 404


async def test_rotation_keeps_the_present_secret_for_a_while(api: httpx.AsyncClient):
    first = (await make(api)).json()
    path = f"/alerts/targets/{first['target']['id']}/rotate"
    second = (await api.post(path, json={"keep_hours": 48})).json()
    assert second["secret"] not in (None, first["secret"])
    newest, present = second["target"]["secrets"]
    assert newest["expires_at"] is None
    ends = datetime.fromisoformat(present["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=47) < ends <= timedelta(hours=48)
    assert len((await api.post(path, json={})).json()["target"]["secrets"]) == 2
    assert len((await api.post(path, json={"keep_hours": 0})).json()["target"]["secrets"]) == 1
    apprise = (await make(api, kind="apprise", url=APPRISE)).json()["target"]["id"]
    assert (await api.post(f"/alerts/targets/{apprise}/rotate", json={})).json()["code"] == "conflict"


@pytest.mark.parametrize(
    "change",
    [
        {"url": "ftp://hooks.test/"},
        {"url": "http://hooks.test/"},
        {"url": "https://169.254.169.254/"},
        {"url": "https://10.0.0.1/"},
        {"url": "https://[::ffff:169.254.169.254]/"},
        {"url": "https://[fd00:ec2::254]/"},
        {"url": "https://"},
        {"url": "hooks.test"},
        {"url": "https://hooks.test/\n"},
        {"url": "nonsense://x", "kind": "apprise"},
        {"url": "dbus://", "kind": "apprise"},
        {"events": []},
        {"events": ["everything"]},
        {"kind": "mail"},
        {"language": "fr"},
        {"name": ""},
        {"name": "a\0"},
        {"unknown": 1},
    ],
)
async def test_a_target_that_cannot_work_is_refused(api: httpx.AsyncClient, change: dict):
    answer = await make(api, **change)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    assert (await api.get("/alerts/targets")).json()["items"] == []


async def test_a_test_arrives_and_tells_what_happened(open_api: httpx.AsyncClient, there: Receiver):
    made = (await make(open_api, url=there.url, language="zh-CN")).json()
    path = f"/alerts/targets/{made['target']['id']}/test"
    answer = (await open_api.post(path)).json()
    assert (answer["outcome"], answer["status"]) == ("delivered", 204)
    assert answer["took_ms"] >= 0
    [got] = there.received
    said = Webhook(made["secret"]).verify(got.body, got.headers)
    assert (said["type"], "测试" in said["data"]["title"]) == ("test", True)
    there.answers, there.location = [302], "http://169.254.169.254/"
    answer = (await open_api.post(path)).json()
    assert (answer["outcome"], answer["status"]) == ("redirect", 302)
    audit = (await open_api.get("/audit", params={"action": "alert_target:test"})).json()["items"]
    assert [entry["after"]["outcome"] for entry in audit] == ["redirect", "delivered"]


async def test_a_test_goes_through_apprise(open_api: httpx.AsyncClient, there: Receiver):
    made = await make(open_api, kind="apprise", url=f"json://127.0.0.1:{there.port}/hook")
    answer = (await open_api.post(f"/alerts/targets/{made.json()['target']['id']}/test")).json()
    assert answer["outcome"] == "delivered"
    assert "works" in json.loads(there.received[0].body)["message"]


async def test_by_default_alerts_do_not_go_inside(api: httpx.AsyncClient, there: Receiver):
    made = await make(api, url=f"https://localhost:{there.port}/")
    answer = (await api.post(f"/alerts/targets/{made.json()['target']['id']}/test")).json()
    assert (answer["outcome"], answer["status"]) == ("refused_address", None)
    assert there.received == []


async def test_the_live_settings_webhook_is_a_target_whose_url_is_changed_there(
    api: httpx.AsyncClient, as_role: AsRole
):
    async def setting(version: int, url: str) -> None:
        body = {"version": version, "values": {"alert_webhook_url": url}}
        assert (await api.put("/settings", json=body)).status_code == 200

    await setting(0, URL)
    [target] = (await api.get("/alerts/targets")).json()["items"]
    assert (target["from_setting"], target["url"], target["events"]) == (
        True, "https://hooks.test/…", ["key_intercepted"],
    )  # fmt: skip
    path = f"/alerts/targets/{target['id']}"
    for answer in (
        await api.patch(path, json={"version": 1, "url": "https://other.test/"}),
        await api.delete(path),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert (await api.patch(path, json={"version": 1, "language": "zh-CN"})).json()["language"] == "zh-CN"
    await setting(1, "")
    emptied = (await api.get(path)).json()
    assert (emptied["enabled"], emptied["disabled_because"], emptied["url"]) == (False, "setting", "")
    for answer in (
        await api.patch(path, json={"version": emptied["version"], "enabled": True}),
        await api.post(f"{path}/test"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    await setting(2, URL)
    assert (await api.get(path)).json()["enabled"] is True


async def test_targets_are_listed_by_id_in_pages(api: httpx.AsyncClient):
    for number in range(3):
        await make(api, name=f"t-{number}")
    first = (await api.get("/alerts/targets", params={"limit": 2})).json()
    second = (await api.get("/alerts/targets", params={"limit": 2, "cursor": first["next"]})).json()
    assert [item["name"] for item in first["items"] + second["items"]] == ["t-0", "t-1", "t-2"]
    assert second["next"] is None
