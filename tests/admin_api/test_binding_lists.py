"""Lists of bindings: pages that neither repeat nor skip, filters, and the index behind each of them."""

import ipaddress
import itertools
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from admin_api.repositories import archive, cursors
from admin_api.repositories import bindings as repository
from admin_api.repositories.archive import ArchiveFilter
from admin_api.repositories.bindings import BindingFilter, Paging
from admin_api.schemas.bindings import BindingMode, BindingSort, BindingStatus, Order
from tests.admin_api.binding_rows import LONG_AGO, bind, bind_many, connected, identity, new_key

pytestmark = pytest.mark.anyio

SORTS = [sort.value for sort in BindingSort]
ORDERS = [order.value for order in Order]


async def pages(api, **asked):
    """The items of every page, one list a page."""
    cursor = None
    while True:
        answer = await api.get("/bindings", params=asked | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        page = answer.json()
        yield page["items"]
        cursor = page["next"]
        if cursor is None:
            return


async def ids_of(api, **asked):
    return [item["id"] async for page in pages(api, **asked) for item in page]


@pytest.mark.parametrize(("sort", "order"), list(itertools.product(SORTS, ORDERS)))
async def test_pages_have_each_binding_once_in_order_while_others_are_made(api, admin_dsn, sort, order):
    """Many share the sort value; what comes in between two pages moves nothing that was there."""
    async with connected(admin_dsn) as pg:
        there = []
        for n in range(13):
            columns = {
                "first_used_at": LONG_AGO + timedelta(days=n % 3),
                "last_used_at": LONG_AGO + timedelta(days=n % 4),
                "intercept_count": n % 3,
                "request_count": n % 4,
            }
            there.append(await bind(pg, new_key(), f"203.0.113.{n}/32", **columns))
        read = []
        async for page in pages(api, sort=sort, order=order, limit=4):
            read += page
            for last_used_at in (LONG_AGO - timedelta(days=9), LONG_AGO + timedelta(days=9)):
                await bind(pg, new_key(), "203.0.113.99/32", last_used_at=last_used_at, first_used_at=last_used_at)
    old = [item for item in read if item["id"] in there]
    assert sorted(item["id"] for item in old) == there
    keys = [(item[sort], item["id"]) for item in old]
    assert keys == sorted(keys, reverse=order == "desc")


async def test_each_filter_finds_what_it_says(api, admin_dsn):
    """And together they find what all of them say."""
    key = new_key()
    async with connected(admin_dsn) as pg:
        plain = await bind(pg, key, "203.0.113.7/32")
        noted = await bind(pg, new_key(), "198.51.100.0/24", note="100%_Büro", mode="observe")
        banned = await bind(pg, new_key(), "2001:db8::/48", "192.0.2.1/32", status="banned")
        over = await bind(pg, new_key(), "192.0.2.2/32", status="banned", ban_expires_at=LONG_AGO)
        recent = await bind(pg, new_key(), "10.0.0.0/8", last_used_at=LONG_AGO + timedelta(days=30))
    hint = identity(key).hint
    moment = (LONG_AGO + timedelta(days=30)).isoformat()
    for asked, expected in (
        ({"status": "banned"}, [banned]),
        ({"status": "active"}, [plain, noted, over, recent]),
        ({"mode": "observe"}, [noted]),
        ({"mode": "inherit"}, [plain, banned, over, recent]),
        ({"mode": "enforce"}, []),
        ({"note": "%_b"}, [noted]),
        ({"note": "0_"}, []),
        ({"hint": hint[:4].upper()}, [plain]),
        ({"hint": hint}, [plain]),
        ({"hint": "%"}, []),
        ({"fingerprint": identity(key).fingerprint.hex().upper()}, [plain]),
        ({"network": "203.0.113.0/24"}, [plain]),
        ({"network": "203.0.113.7"}, [plain]),
        ({"network": "198.51.100.200"}, [noted]),
        ({"network": "::ffff:203.0.113.7"}, [plain]),
        ({"network": "2001:db8:0:1::/64"}, [banned]),
        ({"network": "192.0.2.0/24"}, [banned, over]),
        ({"network": "0.0.0.0/0"}, [plain, noted, banned, over, recent]),
        ({"used_from": moment}, [recent]),
        ({"used_to": moment}, [plain, noted, banned, over]),
        ({"network": "192.0.2.0/24", "status": "banned"}, [banned]),
        ({"note": "", "hint": ""}, [plain, noted, banned, over, recent]),
    ):
        assert await ids_of(api, sort="id", order="asc", **asked) == expected, asked


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"network": "203.0.113.7/24"}, "203.0.113.0/24"),
        ({"network": "nowhere"}, "nowhere"),
        ({"network": "fe80::1%eth0"}, "fe80"),
        ({"used_from": "2026-01-01T00:00:00"}, "used_from"),
        ({"used_to": "yesterday"}, "used_to"),
        ({"status": "gone"}, "status"),
        ({"sort": "note"}, "sort"),
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"fingerprint": "ab"}, "fingerprint"),
        ({"hint": "a\x00b"}, "hint"),
        ({"note": "a\x00b"}, "note"),
        ({"cursor": "x"}, "cursor"),
    ],
)
async def test_a_bad_filter_is_named(api, asked, field):
    """A network with host bits is answered with the network that it would be."""
    answer = await api.get("/bindings", params=asked)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input"), answer.text
    assert field in json.dumps(answer.json())


async def test_a_cursor_fits_one_sort_only(api, admin_dsn):
    """Another sort, another direction, another list, or a forged position: no page, and no fault of the server."""
    async with connected(admin_dsn) as pg:
        await bind_many(pg, 3)
    cursor = (await api.get("/bindings", params={"limit": 1, "sort": "request_count"})).json()["next"]
    assert cursor
    for path, asked in (
        ("/bindings", {"sort": "intercept_count"}),
        ("/bindings", {"sort": "request_count", "order": "asc"}),
        ("/archive", {}),
    ):
        assert (await api.get(path, params=asked | {"cursor": cursor})).status_code == 400
    for forged in (
        cursors.encode("bindings:request_count:desc", 2**63, 1),
        cursors.encode("bindings:request_count:desc", "1", 1),
        cursors.encode("bindings:request_count:desc", 1),
        cursors.encode("bindings:request_count:desc", b"1", 1),
        "é",
        "A" * 1024,
    ):
        asked = {"sort": "request_count", "cursor": forged}
        assert (await api.get("/bindings", params=asked)).status_code == 400, forged


async def test_an_export_is_exactly_the_filtered_list(api, admin_dsn):
    """One JSON object a line with all networks of the binding, ordered by id."""
    async with connected(admin_dsn) as pg:
        inside = [await bind(pg, new_key(), f"203.0.113.{n % 250}/32") for n in range(300)]
        many = await bind(pg, new_key(), *[f"203.0.113.{n}/32" for n in range(40)])
        await bind_many(pg, 5)
    answer = await api.get("/bindings/export", params={"network": "203.0.113.0/24"})
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["id"] for line in lines] == [*inside, many]
    assert len(lines[-1]["networks"]) == 40
    assert answer.headers["cache-control"] == "no-store"
    assert (await api.get("/bindings/export", params={"hint": "none"})).text == ""


async def test_an_export_that_cannot_be_read_is_an_error_and_no_empty_file(api, admin_dsn):
    async with connected(admin_dsn) as pg:
        await pg.execute("ALTER TABLE binding RENAME TO gone")
        try:
            answer = await api.get("/bindings/export")
        finally:
            await pg.execute("ALTER TABLE gone RENAME TO binding")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"


# --- the index behind each list --------------------------------------------------------------------------------------


@pytest.fixture
async def explain(admin_dsn):
    """The plan of a list over some thousand bindings, as text."""
    async with connected(admin_dsn) as pg:
        await pg.execute(FILL)
        await pg.execute("ANALYZE")
        engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: connect(admin_dsn), pool_size=1)
        async with engine.connect() as connection:

            async def plan(statement, values):
                rows = await connection.execute(text("EXPLAIN " + statement), values)
                return "\n".join(row[0] for row in rows)

            yield plan
        await engine.dispose()


async def connect(dsn):
    return await asyncpg.connect(dsn, server_settings={"enable_seqscan": "off", "plan_cache_mode": "force_custom_plan"})


FILL = """
WITH made AS (
    INSERT INTO binding (key_hash, key_hint, status, first_used_at, last_used_at, request_count, intercept_count)
    SELECT sha256(n::text::bytea), substr(md5(n::text), 1, 4) || '…wxyz',
        CASE WHEN n % 100 = 0 THEN 'banned' ELSE 'active' END,
        timestamptz '2026-01-01' + n * interval '1 minute',
        timestamptz '2026-02-01' + n * interval '1 minute', n, n % 50
    FROM generate_series(1, 5000) n RETURNING id
)
INSERT INTO binding_network (binding_id, network, source)
SELECT id, set_masklen(inet '10.0.0.0' + id, 32)::cidr, 'first_use' FROM made;
INSERT INTO binding_archive (binding_id, key_hash, key_hint, note, networks, first_used_at, last_used_at, request_count,
    intercept_count, archived_at, archived_by, cause)
SELECT n, sha256(n::text::bytea), 'abcd…wxyz', '', '[]', now(), now(), 0, 0, now() - n * interval '1 minute', 'x',
    'unbound'
FROM generate_series(1, 3000) n
"""

INDEX_OF = {
    BindingSort.ID: "pk_binding",
    BindingSort.LAST_USED_AT: "ix_binding_last_used_at",
    BindingSort.FIRST_USED_AT: "ix_binding_first_used_at",
    BindingSort.INTERCEPT_COUNT: "ix_binding_intercept_count",
    BindingSort.REQUEST_COUNT: "ix_binding_request_count",
}


async def test_each_sort_and_selective_filter_is_answered_by_its_index(explain):
    """No list sorts the table: a page walks the index of its sort, forwards or backwards, from its cursor on."""
    for sort, order in itertools.product(BindingSort, Order):
        at = LONG_AGO if repository.SORTS[sort] is datetime else 100
        cursor = cursors.encode(f"bindings:{sort.value}:{order.value}", at, 100)
        for paging in (Paging(sort, order), Paging(sort, order, cursor=cursor)):
            plan = await explain(*repository.page_statement(BindingFilter(), paging))
            page_part = plan.split("CTE b", 1)[-1]
            assert f"using {INDEX_OF[sort]} on binding" in plan, plan
            assert ("Scan Backward" in plan) == (order is Order.DESC), page_part
            assert "Seq Scan on binding b" not in plan
            if paging.cursor is not None:
                assert "Index Cond: (" in plan.split(INDEX_OF[sort], 1)[1].split("->")[0], plan
    for wanted, index in (
        (BindingFilter(network=ipaddress.ip_network("10.0.3.7/32")), "ix_binding_network_network"),
        (BindingFilter(hint="a3f2"), "ix_binding_key_hint"),
        (BindingFilter(fingerprint=b"x" * 32), "uq_binding_key_hash"),
        (BindingFilter(status=BindingStatus.BANNED), "ix_binding_banned"),
        (BindingFilter(used_from=datetime(2027, 1, 1, tzinfo=UTC)), "ix_binding_last_used_at"),
        (BindingFilter(mode=BindingMode.OBSERVE), "ix_binding_mode"),
        (BindingFilter(note="office"), "ix_binding_noted"),
    ):
        assert index in await explain(*repository.page_statement(wanted, Paging())), index
    for wanted, index in (
        (ArchiveFilter(), "ix_binding_archive_archived_at"),
        (ArchiveFilter(fingerprint=b"x" * 32), "ix_binding_archive_key_hash"),
        (ArchiveFilter(hint="a3f2"), "ix_binding_archive_key_hint"),
        (ArchiveFilter(restored=True), "ix_binding_archive_restored"),
    ):
        assert index in await explain(*archive.page_statement(wanted, 50, None)), index


FEW = {
    "hint": (BindingFilter(hint="a"), "ix_binding_key_hint"),
    "mode": (BindingFilter(mode=BindingMode.OBSERVE), "ix_binding_mode"),
    "status": (BindingFilter(status=BindingStatus.BANNED), "ix_binding_banned"),
    "note": (BindingFilter(note="a"), "ix_binding_noted"),
}


async def test_what_few_have_is_never_looked_for_along_a_sort_order(explain):
    """The planner's guess of how many have a hint is off by hundreds, and it does not know that banned keys are those
    that were not used lately: a page of those few would read half the table."""
    for name, indexed in repository.INDEXED.items():
        wanted, index = FEW[name]
        for sort in BindingSort:
            plan = await explain(*repository.page_statement(wanted, Paging(sort), rare=indexed))
            assert index in plan
            walked = INDEX_OF[sort] in plan.split("Index Cond: (binding_id")[0]
            assert not walked, plan
    common = await explain(*repository.page_statement(FEW["hint"][0], Paging()))
    assert "ix_binding_last_used_at" in common, "of a common one the first page is found at once there"


@pytest.mark.parametrize("name", FEW)
async def test_pages_of_what_few_and_of_what_many_have_hold_the_same(api, admin_dsn, monkeypatch, name):
    wanted, _ = FEW[name]
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(admin_dsn))
    async with connected(admin_dsn) as pg:
        await bind_many(pg, 12)
        await pg.execute("UPDATE binding SET key_hint = 'A…', mode = 'observe', status = 'banned', note = 'a' || id"
                         " WHERE id % 3 = 0")  # fmt: skip
    statements: list[str] = []
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *facts: statements.append(facts[2]))
    shown = []
    async with AsyncSession(engine) as session:
        for rare_max in (repository.RARE_MAX, 0):
            monkeypatch.setattr(repository, "RARE_MAX", rare_max)
            shown.append(await repository.page(session, wanted, Paging(limit=2)))
    await engine.dispose()
    assert shown[0] == shown[1]
    assert shown[0].items
    assert ["OFFSET 0" in each for each in statements if "WITH b" in each] == [True, False]
