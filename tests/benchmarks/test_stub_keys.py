"""The key that the stub reads is the one New API would read (rules of its ``TokenAuth``)."""

import pytest

from benchmarks.stub import StubServer
from tests.benchmarks.wire import KEY, ask_bare

pytestmark = pytest.mark.anyio

BARE = KEY.removeprefix("sk-")
DECOY = "Bearer sk-decoy"
CHAT = "/v1/chat/completions"
GEMINI = "/v1beta/models/m:generateContent"

ACCEPTED = [
    (CHAT, [("Authorization", f"Bearer {KEY}")]),
    (CHAT, [("Authorization", f"bearer   {BARE}  ")]),
    (CHAT, [("Authorization", KEY)]),
    (CHAT, [("Authorization", f"Bearer {KEY}"), ("Authorization", DECOY)]),
    (CHAT, [("Authorization", DECOY), ("Sec-WebSocket-Protocol", KEY)]),
    (CHAT, [("Authorization", DECOY), ("Sec-WebSocket-Protocol", f"realtime, openai-insecure-api-key.{KEY}")]),
    (CHAT, [("mj-api-secret", BARE)]),
    (CHAT, [("Authorization", "Bearer midjourney-proxy"), ("mj-api-secret", KEY)]),
    ("/v1/messages", [("Authorization", DECOY), ("x-api-key", KEY)]),
    ("/v1%2Fmessages", [("Authorization", DECOY), ("x-api-key", KEY)]),
    (GEMINI + f"?key={BARE}", [("Authorization", DECOY)]),
    (GEMINI + f"?key=%zz&key={BARE}", []),
    (GEMINI + f"?a=1;key=x&key=+{BARE}", []),
    (GEMINI + "?key=decoy", [("x-goog-api-key", KEY)]),
]

REFUSED = [
    (CHAT, []),
    (CHAT, [("Authorization", DECOY)]),
    (CHAT, [("Authorization", f"BEARER {KEY}")]),
    (CHAT, [("Authorization", f"Bearer Bearer {KEY}")]),
    (CHAT, [("Authorization", f"Bearer sk-{KEY}")]),
    (CHAT, [("Authorization", f"Bearer {KEY.upper()}")]),
    (CHAT, [("Authorization", DECOY), ("Authorization", f"Bearer {KEY}")]),
    (CHAT, [("Authorization", f"Bearer {KEY}"), ("Sec-WebSocket-Protocol", "realtime")]),
    (CHAT, [("x-api-key", KEY)]),
    (CHAT + f"?key={KEY}", []),
    ("/v1/messages", [("x-api-key", f"Bearer {KEY}")]),
    (GEMINI + f"?key=decoy&key={BARE}", []),
]


@pytest.mark.parametrize(("target", "headers"), ACCEPTED)
async def test_accepted(stub: StubServer, target: str, headers: list[tuple[str, str]]) -> None:
    assert (await ask_bare(stub.port, "POST", target, *headers, body=b"{}")).status == 200


@pytest.mark.parametrize(("target", "headers"), REFUSED)
async def test_refused(stub: StubServer, target: str, headers: list[tuple[str, str]]) -> None:
    answer = await ask_bare(stub.port, "POST", target, *headers, body=b"{}")
    assert answer.status == 401
    request_id = answer.headers["x-oneapi-request-id"]
    expected = f'{{"error":{{"code":"","message":"Invalid token (request id: {request_id})","type":"new_api_error"}}}}'
    assert answer.body == expected.encode()


async def test_a_channel_suffix_is_forbidden_to_ordinary_users(stub: StubServer) -> None:
    answer = await ask_bare(stub.port, "POST", CHAT, ("Authorization", f"Bearer {KEY}-7"), body=b"{}")
    assert answer.status == 403
    assert answer.json()["error"]["type"] == "new_api_error"


async def test_any_key_accepts_every_key_but_none() -> None:
    async with StubServer(any_key=True) as stub:
        accepted = await ask_bare(stub.port, "POST", CHAT, ("Authorization", "Bearer sk-whatever"), body=b"{}")
        assert accepted.status == 200
        assert (await ask_bare(stub.port, "POST", CHAT, body=b"{}")).status == 401
