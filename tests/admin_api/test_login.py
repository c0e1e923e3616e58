"""Signing in: the first operator, right and wrong passwords, and how a flood of wrong ones is held off."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from argon2 import PasswordHasher
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from admin_api import lockout
from admin_api.errors import WrongCredentials
from admin_api.lockout import Attempt, Lockout
from admin_api.operations import sessions
from admin_api.operations.sessions import Visitor
from admin_api.passwords import Passwords
from admin_api.rooms import AdminRooms
from admin_api.settings import AdminSettings
from proxy_core.cache import connect
from proxy_core.settings import load
from sentinel.services import Stores
from tests.admin_api.conftest import AsRole
from tests.support import admin
from tests.support.admin import ADMIN_PASSWORD, running_admin

pytestmark = pytest.mark.anyio

WRONG = "a wrong password"


async def attempt(
    client: httpx.AsyncClient, password: str = ADMIN_PASSWORD, *, name: str = "admin", address: str = admin.ADDRESS
) -> httpx.Response:
    return await client.post("/login", json={"name": name, "password": password}, headers={"x-real-ip": address})


async def test_first_operator_signs_in_with_the_password_of_the_settings(
    anonymous: httpx.AsyncClient, admin_dsn: str
) -> None:
    """Name `admin` goes without saying; the answer says who one is, and its token works."""
    answer = await anonymous.post("/login", json={"password": ADMIN_PASSWORD})
    assert answer.status_code == 200
    body = answer.json()
    assert body["token_type"] == "Bearer"
    assert body["expires_in_s"] == 900
    assert (body["operator"]["name"], body["operator"]["role"]) == ("admin", "admin")
    assert "operators:write" in body["operator"]["scopes"]
    me = await anonymous.get("/me", headers={"authorization": f"Bearer {body['access_token']}"})
    assert me.json() == body["operator"]
    actions = await fetch(admin_dsn, "SELECT actor_kind, action FROM admin_audit ORDER BY id")
    assert [tuple(row) for row in actions] == [("system", "operator:add"), ("user", "session:login")]


async def test_many_first_sign_ins_at_once_make_one_operator(anonymous: httpx.AsyncClient, admin_dsn: str) -> None:
    answers = await asyncio.gather(*(attempt(anonymous, address=f"192.0.2.{n}") for n in range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6
    assert await fetch(admin_dsn, "SELECT name FROM admin_user") == [("admin",)]


async def test_password_of_the_settings_makes_nobody_where_there_is_an_operator(
    anonymous: httpx.AsyncClient, as_role: AsRole, admin_dsn: str
) -> None:
    await as_role("admin", name="root")
    assert (await attempt(anonymous)).status_code == 401
    assert await fetch(admin_dsn, "SELECT name FROM admin_user") == [("root",)]


async def test_nobody_is_told_whether_name_or_password_is_wrong(anonymous: httpx.AsyncClient) -> None:
    """Unknown name, wrong password and a disabled operator get one answer."""
    assert (await attempt(anonymous)).status_code == 200
    answers = [await attempt(anonymous, WRONG), await attempt(anonymous, name="nobody")]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["code"] == "wrong_credentials"


@pytest.mark.parametrize("body", [{}, {"password": ""}, {"password": "x", "name": "a\0b"}, {"password": "x", "y": 1}])
async def test_malformed_sign_in_is_bad_input(anonymous: httpx.AsyncClient, body: dict) -> None:
    answer = await anonymous.post("/login", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")


async def test_unknown_name_costs_what_a_known_one_costs(admin_dsn: str, redis_url: str) -> None:
    """For either, one password is compared with one Argon2id hash of the same costs."""

    compared: list[str] = []

    class Recorder(PasswordHasher):
        def verify(self, known: str, given: str) -> bool:
            compared.append(known)
            return super().verify(known, given)

    passwords = Passwords(Recorder())
    async with rooms_with(passwords, admin_dsn, redis_url) as rooms:
        for name in ("admin", "nobody"):
            with pytest.raises(WrongCredentials):
                await sessions.sign_in(rooms, name, WRONG, VISITOR)
    assert len(compared) == 2
    costs = [known.rpartition("$")[0].rpartition("$")[0] for known in compared]
    assert costs[0] == costs[1]
    assert [len(known) for known in compared] == [97, 97]


# --- lockout ---------------------------------------------------------------------------------------------------------


async def test_wrong_passwords_are_refused_after_some(anonymous: httpx.AsyncClient) -> None:
    """The right one is refused too while the wait lasts, and the answer says how long that is."""
    statuses = [(await attempt(anonymous, WRONG)).status_code for _ in range(lockout.PAIR_FREE)]
    assert statuses == [401] * lockout.PAIR_FREE
    answer = await attempt(anonymous)
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_attempts")
    assert 1 <= answer.json()["extra"]["retry_after_s"] <= lockout.FIRST_WAIT_S
    assert answer.headers["retry-after"] == str(answer.json()["extra"]["retry_after_s"])


async def test_thousand_attempts_at_once_are_counted_before_any_is_judged(anonymous: httpx.AsyncClient) -> None:
    """On a slow machine the wait may end before the last of them has come: then one more is judged, and so on."""
    began = time.monotonic()
    answers = await asyncio.gather(*(attempt(anonymous, WRONG) for _ in range(lockout.PAIR_FREE + 6)))
    shortest_s = lockout.FIRST_WAIT_S - 1  # Redis counts whole seconds
    waits_over = int(math.log2((time.monotonic() - began) / shortest_s + 1))
    statuses = [answer.status_code for answer in answers]
    assert lockout.PAIR_FREE <= statuses.count(401) <= lockout.PAIR_FREE + waits_over
    assert set(statuses) == {401, 429}


async def test_flood_of_strangers_locks_nobody_out_elsewhere(anonymous: httpx.AsyncClient) -> None:
    """Each stranger is refused; the administrator signs in from another address, seen before or not."""
    assert (await attempt(anonymous, address="192.0.2.1")).status_code == 200
    for stranger in range(4):
        for _ in range(lockout.PAIR_FREE):
            await attempt(anonymous, WRONG, address=f"203.0.113.{stranger}")
        assert (await attempt(anonymous, address=f"203.0.113.{stranger}")).status_code == 429
    assert (await attempt(anonymous, address="192.0.2.1")).status_code == 200
    assert (await attempt(anonymous, address="192.0.2.2")).status_code == 200


async def test_success_begins_the_count_anew(anonymous: httpx.AsyncClient) -> None:
    for _ in range(2):
        for _ in range(lockout.PAIR_FREE - 1):
            assert (await attempt(anonymous, WRONG)).status_code == 401
        assert (await attempt(anonymous)).status_code == 200


async def test_new_password_ends_the_wait(anonymous: httpx.AsyncClient, admin_dsn: str) -> None:
    """What the local command sets is good at once, though the address was refused before."""
    await attempt(anonymous)
    for _ in range(lockout.PAIR_FREE):
        await attempt(anonymous, WRONG)
    assert (await attempt(anonymous)).status_code == 429
    await fetch(admin_dsn, "UPDATE admin_user SET version = version + 1")
    assert (await attempt(anonymous)).status_code == 200


async def test_sign_in_works_while_redis_is_away(own_stores: Stores) -> None:
    """Failures are then counted by the process itself."""
    with running_admin(own_stores.pg_dsn, own_stores.redis_url) as server:
        own_stores.valkey.stop()
        async with admin.client(server.url) as client:
            assert (await attempt(client)).status_code == 200
            for _ in range(lockout.PAIR_FREE):
                assert (await attempt(client, WRONG)).status_code == 401
            assert (await attempt(client)).status_code == 429


async def test_first_operator_is_made_when_postgresql_comes_back(own_stores: Stores) -> None:
    """A server that started without PostgreSQL says so, and signs in as soon as there is one."""
    own_stores.postgres.stop()
    with running_admin(own_stores.pg_dsn, own_stores.redis_url) as server:
        async with admin.client(server.url) as client:
            answer = await attempt(client)
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
            own_stores.postgres.start()
            assert (await attempt(client)).status_code == 200


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.mark.parametrize("store", ["redis", "alone"])
async def test_waits_grow(store: str, redis_url: str) -> None:
    """Each failure after a wait doubles the next one; Redis and a process alone have one rule."""
    url = redis_url if store == "redis" else "unix:///nowhere"
    clock = Clock()
    redis = connect(url, timeout_s=2.0)
    held = Lockout(redis, clock=clock, sleep=clock.sleep)
    one = Attempt("admin:1", "192.0.2.1", stranger=True)
    waits = []
    for _ in range(lockout.PAIR_FREE):
        await held.admit(one)
    for _ in range(3):
        with pytest.raises(lockout.TooManyAttempts) as refused:
            await held.admit(one)
        waits.append(refused.value.extra["retry_after_s"])
        await pass_time(redis, clock, waits[-1])
        await held.admit(one)
    assert waits == [5, 10, 20]
    await held.succeeded(one)
    await held.admit(one)
    await redis.aclose()


async def test_one_address_with_many_names_is_refused(redis_url: str) -> None:
    """An IPv6 network of 64 bits is one address; who signed in there before is spared."""
    redis = connect(redis_url, timeout_s=2.0)
    held = Lockout(redis)
    for number in range(lockout.ADDRESS_FREE):
        await held.admit(Attempt(f"name-{number}:0", f"2001:db8::{number:x}", stranger=True))
    with pytest.raises(lockout.TooManyAttempts):
        await held.admit(Attempt("another:0", "2001:db8::ffff:1", stranger=True))
    await held.admit(Attempt("another:0", "2001:db8:0:1::1", stranger=True))
    await held.admit(Attempt("admin:1", "2001:db8::ffff:1", stranger=False))
    await redis.aclose()


async def test_account_that_is_tried_from_everywhere_slows_strangers_only(redis_url: str) -> None:
    clock = Clock()
    redis = connect(redis_url, timeout_s=2.0)
    held = Lockout(redis, clock=clock, sleep=clock.sleep)
    for number in range(lockout.ACCOUNT_FREE + 2):
        await held.admit(Attempt("admin:1", f"203.0.113.{number}", stranger=True))
    assert clock.slept == [pytest.approx(0.1), pytest.approx(0.2)]
    await held.admit(Attempt("admin:1", "192.0.2.1", stranger=False))
    assert len(clock.slept) == 2
    await redis.aclose()


async def test_process_alone_remembers_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockout, "REMEMBERED_MAX", 10)
    redis = connect("unix:///nowhere", timeout_s=2.0)
    held = Lockout(redis)
    for number in range(30):
        await held.admit(Attempt(f"name-{number}:0", "192.0.2.1", stranger=False))
    assert len(held._own) == 10
    await redis.aclose()


async def pass_time(redis: object, clock: Clock, seconds: float) -> None:
    """For the process by its clock, for Redis by moving what it wrote."""
    clock.now += seconds
    try:
        async for key in redis.scan_iter("sentinel:login:*"):
            if await redis.type(key) == b"hash":
                await redis.hset(key, "lifted", 0)
    except OSError:
        pass
    except Exception as error:
        if "Connect" not in type(error).__name__:
            raise


VISITOR = Visitor("192.0.2.1", "test", "", 1_000_000.0)


@contextlib.asynccontextmanager
async def rooms_with(passwords: Passwords, dsn: str, redis_url: str) -> AsyncIterator[AdminRooms]:
    """What signing in needs, and nothing else."""
    settings = load(
        AdminSettings,
        downstream_url="http://127.0.0.1:9",
        pg_dsn=dsn,
        redis_url=redis_url,
        hmac_secret=admin.HMAC_SECRET,
        admin_jwt_secret=admin.JWT_SECRET,
        admin_password=ADMIN_PASSWORD,
    )
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(dsn))
    redis = connect(redis_url, timeout_s=2.0)
    furnished = {
        "settings": settings,
        "engine": engine,
        "sessions": async_sessionmaker(engine, expire_on_commit=False),
        "redis": redis,
        "passwords": passwords,
        "lockout": Lockout(redis),
    }
    try:
        yield AdminRooms(**dict.fromkeys(AdminRooms.__struct_fields__) | furnished)
    finally:
        await redis.aclose()
        await engine.dispose()


async def fetch(dsn: str, statement: str) -> list:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()
