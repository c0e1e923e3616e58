"""Sessions of the console: who is found by a cookie, for how long, and that a token is renewed once."""

import asyncio
import uuid

import httpx
import msgspec
import pytest

from admin_api.schemas.auth import Me, SignedIn
from console.client import Api, Backend, Problem, SignedOut
from console.session import RENEW_BEFORE_S, Sessions
from tests.support.clocks import FakeClock

pytestmark = pytest.mark.anyio

LIFE_S = 900


def signed_in(number: int = 1) -> SignedIn:
    me = Me("user", 1, "chen", "admin", ["bindings:read"])
    return SignedIn(f"access-{number}", LIFE_S, f"refresh-{number}", uuid.UUID(int=1), me)


class AdminApi:
    """Takes the newest access token, and each refresh token once: as the real one does."""

    def __init__(self) -> None:
        self.number = 1
        self.renewals = 0
        self.ended = False

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        if request.url.path == "/admin/api/refresh":
            self.renewals += 1
            if self.ended or msgspec.json.decode(request.content) != {"refresh_token": f"refresh-{self.number}"}:
                self.ended = True
                return self._refused()
            self.number += 1
            return httpx.Response(200, content=msgspec.json.encode(signed_in(self.number)))
        if self.ended or request.headers["authorization"] != f"Bearer access-{self.number}":
            return self._refused()
        return httpx.Response(200, json={"name": "chen"})

    def _refused(self) -> httpx.Response:
        return httpx.Response(401, json={"code": "not_authenticated"})


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def sessions(clock) -> Sessions:
    return Sessions(600, clock=clock)


async def test_a_cookie_finds_its_session_until_it_ends(sessions):
    cookie, session = sessions.open(signed_in(), None, "")
    other, _ = sessions.open(signed_in(), None, "")
    assert cookie != other
    assert sessions.find(cookie) is session
    assert [sessions.find(each) for each in (None, "", cookie + "x")] == [None] * 3
    sessions.end(session)
    assert sessions.find(cookie) is None
    assert len(sessions) == 1


async def test_only_use_keeps_a_session_alive(sessions, clock):
    cookie, session = sessions.open(signed_in(), None, "")
    clock.advance(500)
    session.touch()
    clock.advance(500)
    assert sessions.find(cookie) is session
    assert sessions.over() == []
    clock.advance(101)
    assert sessions.find(cookie) is None
    assert sessions.over() == [session]


async def test_zero_means_no_time_out(clock):
    sessions = Sessions(0, clock=clock)
    cookie, session = sessions.open(signed_in(), None, "")
    clock.advance(10**6)
    assert sessions.find(cookie) is session


async def test_many_requests_at_once_renew_a_token_once_before_it_expires(sessions, clock):
    """A refresh token that is sent twice ends the session."""
    api = AdminApi()
    backend = Backend("http://api", httpx.MockTransport(api))
    _, session = sessions.open(signed_in(), None, "")
    clock.advance(LIFE_S - RENEW_BEFORE_S + 1)
    answers = await asyncio.gather(*(Api(backend, session).get("/me", dict[str, str]) for _ in range(20)))
    assert answers == [{"name": "chen"}] * 20
    assert (api.renewals, session.access_token) == (1, "access-2")
    await backend.aclose()


async def test_a_token_that_is_refused_early_is_renewed_and_the_request_repeated(sessions):
    api = AdminApi()
    backend = Backend("http://api", httpx.MockTransport(api))
    _, session = sessions.open(signed_in(), None, "")
    session.access_token = "from before the secret was changed"
    assert await Api(backend, session).get("/me", dict[str, str]) == {"name": "chen"}
    await backend.aclose()


async def test_an_ended_session_is_said_so_and_asks_no_more(sessions):
    api = AdminApi()
    api.ended = True
    backend = Backend("http://api", httpx.MockTransport(api))
    _, session = sessions.open(signed_in(), None, "")
    for _ in range(2):
        with pytest.raises(SignedOut):
            await Api(backend, session).get("/me", dict[str, str])
    assert api.renewals == 1
    assert session.ended
    await backend.aclose()


async def test_what_is_no_answer_of_the_admin_api_is_told_as_such(sessions):
    answers = iter([httpx.Response(502, text="<html>bad gateway"), httpx.Response(200, text="<html>hello")])
    backend = Backend("http://api", httpx.MockTransport(lambda _request: next(answers)))
    _, session = sessions.open(signed_in(), None, "")
    for _ in range(2):
        with pytest.raises(Problem) as told:
            await Api(backend, session).get("/me", dict[str, str])
        assert told.value.code == "unreadable_answer"
    await backend.aclose()
