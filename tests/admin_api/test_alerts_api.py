"""Alerts over the API: listed, filtered, looked at, sent anew, and by whom."""

import httpx
import pytest

from admin_api.schemas.alerts import AlertKind
from tests.admin_api.conftest import AsRole
from tests.support.alert_parts import INTERCEPTED, new_alert, new_target, time_passes

pytestmark = pytest.mark.anyio

KEY = "6b" * 32


async def ids(api: httpx.AsyncClient, **query: object) -> list[int]:
    answer = await api.get("/alerts", params=query)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


async def test_an_alert_is_shown_with_its_deliveries_and_attempts(api: httpx.AsyncClient, admin_pg):
    target = await new_target(admin_pg, "https://hooks.test/t0ken")
    alert = await new_alert(admin_pg)
    await admin_pg.execute(
        """UPDATE alert_delivery SET state = 'dead', next_at = NULL, attempts =
           '[{"at": "2026-11-25T17:55:00Z", "took_ms": 12, "outcome": "http_error", "status": 500}]'"""
    )
    answer = await api.get(f"/alerts/{alert}")
    found = answer.json()
    assert found["alert"]["kind"] == "key_intercepted"
    assert (found["alert"]["hint"], found["alert"]["fingerprint"], found["alert"]["binding_id"]) == (
        "abcd…wxyz", KEY, 7,
    )  # fmt: skip
    assert found["alert"]["addresses"] == INTERCEPTED["addresses"]
    assert (found["alert"]["bound_networks"], found["alert"]["facts"]) == (["203.0.113.0/24"], {})
    assert (found["alert"]["status"], found["alert"]["deliveries"]["dead"]) == ("dead", 1)
    [delivery] = found["deliveries"]
    assert (delivery["target_id"], delivery["target_name"], delivery["state"]) == (target, "on-call", "dead")
    assert delivery["attempts"] == [
        {"at": "2026-11-25T17:55:00Z", "took_ms": 12, "outcome": "http_error", "status": 500}
    ]
    assert "t0ken" not in answer.text
    assert (await api.get(f"/alerts/{alert + 1}")).status_code == 404


async def test_lists_are_filtered_by_kind_status_key_and_time(api: httpx.AsyncClient, admin_pg):
    lonely = await new_alert(admin_pg, AlertKind.ARCHIVE_RUN, archived=3)
    target = await new_target(admin_pg, "https://hooks.test/")
    dead, pending, delivered = [await new_alert(admin_pg) for _ in range(3)]
    for alert, state in ((dead, "dead"), (delivered, "delivered")):
        await admin_pg.execute("UPDATE alert_delivery SET state = $2 WHERE alert_id = $1", alert, state)
    await admin_pg.execute(
        "UPDATE alert SET raised_at = now() - interval '2 days', key_hint = '100%…' WHERE id = $1", dead
    )
    await admin_pg.execute("UPDATE alert SET key_hash = $2, binding_id = 8 WHERE id = $1", pending, b"x" * 32)
    assert await ids(api) == [delivered, pending, lonely, dead]
    assert await ids(api, kind="archive_run") == [lonely]
    found = {status: await ids(api, status=status) for status in ("dead", "pending", "delivered", "no_target")}
    assert found == {"dead": [dead], "pending": [pending], "delivered": [delivered], "no_target": [lonely]}
    assert await ids(api, fingerprint=KEY) == [delivered, lonely, dead]
    assert await ids(api, binding_id=8) == [pending]
    assert await ids(api, hint="100%") == [dead]
    day_ago = (await admin_pg.fetchval("SELECT now() - interval '1 day'")).isoformat()
    assert await ids(api, to=day_ago) == [dead]
    assert await ids(api, **{"from": day_ago}) == [delivered, pending, lonely]
    # One that was given up weighs more than others that arrived.
    await new_target(admin_pg, "https://other.test/")
    await admin_pg.execute("INSERT INTO alert_delivery (alert_id, target_id, target_name, target_kind, state) "
                     "VALUES ($1, $2, '', 'webhook', 'delivered')", dead, target + 1)  # fmt: skip
    assert await ids(api, status="dead") == [dead]


async def test_pages_follow_each_other_whatever_is_raised_meanwhile(api: httpx.AsyncClient, admin_pg):
    made = [await new_alert(admin_pg) for _ in range(5)]
    first = (await api.get("/alerts", params={"limit": 2})).json()
    await new_alert(admin_pg)
    second = (await api.get("/alerts", params={"limit": 2, "cursor": first["next"]})).json()
    third = (await api.get("/alerts", params={"limit": 2, "cursor": second["next"]})).json()
    shown = [item["id"] for page in (first, second, third) for item in page["items"]]
    assert (shown, third["next"]) == (made[::-1], None)


@pytest.mark.parametrize("query", ["from=never", "kind=x", "status=x", "fingerprint=zz", "cursor=x", "limit=0"])
async def test_a_bad_query_is_refused(api: httpx.AsyncClient, query: str):
    answer = await api.get(f"/alerts?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")


async def test_sending_anew_is_answered_per_alert_and_audited(api: httpx.AsyncClient, admin_pg):
    lonely = await new_alert(admin_pg)
    await new_target(admin_pg, "https://hooks.test/", events=["binding_banned"])
    banned = await new_alert(admin_pg, AlertKind.BINDING_BANNED, count=1, keys=[])
    await admin_pg.execute("UPDATE alert_delivery SET state = 'dead', next_at = NULL, tries = 11")
    wanted = {"ids": [banned, lonely, 999_999, banned], "reason": "receiver is back"}
    answer = (await api.post("/alerts/redeliver", json=wanted)).json()["results"]
    assert answer == [
        {"id": banned, "outcome": "done"},
        {"id": lonely, "outcome": "no_target"},
        {"id": 999_999, "outcome": "not_found"},
    ]
    row = await admin_pg.fetchrow("SELECT state, tries, next_at <= now() AS due FROM alert_delivery")
    assert tuple(row) == ("pending", 0, True)
    again = (await api.post("/alerts/redeliver", json={"ids": [banned]})).json()["results"]
    assert again == [{"id": banned, "outcome": "unchanged"}]
    audit = await admin_pg.fetch("SELECT subject_id, reason FROM admin_audit WHERE action = 'alert:redeliver'")
    assert [tuple(entry) for entry in audit] == [(str(banned), "receiver is back")]


async def test_sending_anew_does_not_wait_for_the_next_attempt(api: httpx.AsyncClient, admin_pg):
    await new_target(admin_pg, "https://hooks.test/")
    alert = await new_alert(admin_pg)
    await admin_pg.execute("UPDATE alert_delivery SET next_at = now() + interval '3 hours', tries = 7")
    answer = (await api.post("/alerts/redeliver", json={"ids": [alert]})).json()["results"]
    assert answer == [{"id": alert, "outcome": "done"}]
    assert await admin_pg.fetchval("SELECT next_at <= now() FROM alert_delivery")


async def test_an_alert_can_be_sent_to_a_target_that_was_made_after_it(api: httpx.AsyncClient, admin_pg):
    """To one that is named also if it is not subscribed."""
    alert = await new_alert(admin_pg)
    subscribed = await new_target(admin_pg, "https://a.test/")
    other = await new_target(admin_pg, "https://b.test/", events=["archive_run"])
    for wanted in ({"ids": [alert]}, {"ids": [alert], "target_id": other}):
        answer = (await api.post("/alerts/redeliver", json=wanted)).json()["results"]
        assert answer == [{"id": alert, "outcome": "done"}]
    await time_passes(admin_pg)
    rows = await admin_pg.fetch("SELECT target_id FROM alert_delivery ORDER BY target_id")
    assert [row["target_id"] for row in rows] == [subscribed, other]


async def test_viewers_look_operators_send_anew_and_only_admins_say_where_to(as_role: AsRole, admin_pg):
    target = await new_target(admin_pg, "https://hooks.test/")
    alert = await new_alert(admin_pg)
    new = {"name": "x", "kind": "webhook", "url": "https://x.test/", "events": ["archive_run"]}
    allowed = {}
    for role in ("viewer", "operator", "admin"):
        client = await as_role(role)
        answers = [
            await client.get("/alerts"),
            await client.get(f"/alerts/{alert}"),
            await client.get("/alerts/targets"),
            await client.get(f"/alerts/targets/{target}"),
            await client.post("/alerts/redeliver", json={"ids": [alert]}),
            await client.post("/alerts/targets/999/test"),
            await client.post("/alerts/targets", json=new),
            await client.patch(f"/alerts/targets/{target}", json={"version": 1, "name": "y"}),
            await client.post(f"/alerts/targets/{target}/rotate", json={}),
            await client.delete(f"/alerts/targets/{target}"),
        ]
        allowed[role] = sum(answer.status_code != 403 for answer in answers)
    assert allowed == {"viewer": 4, "operator": 6, "admin": 10}


async def test_a_ban_of_many_is_one_alert(api: httpx.AsyncClient, admin_pg):
    for number in range(12):
        await admin_pg.execute(
            "INSERT INTO binding (key_hash, key_hint, first_used_at, last_used_at) VALUES ($1, $2, now(), now())",
            bytes([number]) * 32, f"key{number}…",
        )  # fmt: skip
    bindings = [row["id"] for row in await admin_pg.fetch("SELECT id FROM binding ORDER BY id")]
    body = {"ids": bindings, "reason": "resold", "expires_at": "2099-01-01T00:00:00Z"}
    for _ in range(2):
        await api.post("/bindings/ban", json=body)
    [alert] = (await api.get("/alerts", params={"kind": "binding_banned"})).json()["items"]
    assert (alert["facts"]["by"], alert["facts"]["reason"], alert["facts"]["count"]) == ("root", "resold", 12)
    assert len(alert["facts"]["keys"]) == 10
    await api.post("/bindings/ban", json={"ids": bindings[:1], "reason": "again"})
    newest = (await api.get("/alerts")).json()["items"][0]
    assert (newest["binding_id"], newest["hint"]) == (bindings[0], "key0…")
