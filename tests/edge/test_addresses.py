"""Whose address: the one that nginx saw at the other end of the connection, whatever a client claims, by any header."""

import httpx
import pytest

from benchmarks.stub import StubServer
from tests.support.edge import CLIENT, Edge, running_edge
from tests.support.gateways import GatewayProcess

pytestmark = pytest.mark.anyio

CHAT = {"model": "m", "messages": []}
CLAIMED = "203.0.113.66"
CLAIMS = [
    *("X-Real-IP", "x-real-ip", "X-Forwarded-For", "X-Forwarded", "Forwarded-For", "X-Original-Forwarded-For"),
    *("X-Client-IP", "X-Cluster-Client-IP", "True-Client-IP", "CF-Connecting-IP", "CF-Connecting-IPv6"),
    *("Fastly-Client-IP", "X_Real_IP", "x_real_ip", "X_Forwarded_For", "X-Real_IP", "CF_Connecting_IP"),
]


def seen_upstream(stub: StubServer) -> tuple[list[str], list[str], bytes]:
    request = stub.requests[-1]
    return request.values("x-real-ip"), request.values("x-forwarded-for"), request.head


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize("name", CLAIMS)
async def test_a_claimed_address_reaches_nobody(edge: Edge, stub: StubServer, key: str, name: str, http2: bool):
    async with edge.client(key, http2=http2) as client:
        answer = await client.post("/v1/chat/completions", json=CHAT, headers={name: CLAIMED})
    assert answer.status_code == 200
    assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    real_ip, forwarded_for, head = seen_upstream(stub)
    assert (real_ip, forwarded_for) == ([CLIENT], [CLIENT])
    assert CLAIMED.encode() not in head


async def test_the_standard_header_is_not_believed_either(edge: Edge, stub: StubServer, key: str):
    async with edge.client(key) as client:
        await client.post("/v1/chat/completions", json=CHAT, headers={"forwarded": f"for={CLAIMED};proto=http;by=x"})
    assert CLAIMED.encode() not in seen_upstream(stub)[2]
    assert stub.requests[-1].values("x-forwarded-proto") == ["https"]


async def test_a_header_sent_twice_is_replaced_twice(edge: Edge, stub: StubServer, key: str):
    async with edge.client(key) as client:
        await client.post("/v1/chat/completions", json=CHAT, headers=[("x-real-ip", CLAIMED), ("x-real-ip", "::1")])
    assert seen_upstream(stub)[0] == [CLIENT]


@pytest.mark.parametrize("listed", ["x-real-ip", "X-Real-IP, close", "x-forwarded-for, X-Real-Ip, x-forwarded-proto"])
async def test_a_client_cannot_have_the_address_taken_away(edge: Edge, stub: StubServer, key: str, listed: str):
    """By naming it in Connection, as hop-by-hop headers are named."""
    async with edge.connection() as (reader, writer):
        writer.write(
            f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nX-Real-IP: {CLAIMED}\r\n"
            f"Connection: {listed}\r\n\r\n".encode()
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert seen_upstream(stub)[0] == [CLIENT]
    assert CLAIMED.encode() not in seen_upstream(stub)[2]


async def test_a_key_works_from_its_address_only(edge: Edge, stub: StubServer, key: str):
    """And the thief, who knows the owner's address, is refused with every way of saying it."""
    async with edge.client(key) as owner, edge.client(key, address="127.0.0.10") as thief:
        assert (await owner.post("/v1/chat/completions", json=CHAT)).status_code == 200
        assert (await thief.post("/v1/chat/completions", json=CHAT)).status_code == 403
        for name in CLAIMS:
            refused = await thief.post("/v1/chat/completions", json=CHAT, headers={name: CLIENT})
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "key_bound_to_other_address"), name
        assert (await owner.post("/v1/chat/completions", json=CHAT)).status_code == 200


BEHIND_A_BALANCER = {
    "sentinel/real-ip.conf": {
        "#set_real_ip_from 10.0.0.0/24;\n#real_ip_header X-Forwarded-For;\n#real_ip_recursive on;": (
            "set_real_ip_from 127.0.0.64/26;\nreal_ip_header X-Forwarded-For;\nreal_ip_recursive on;"
        )
    }
}
BALANCER, INNER_BALANCER = "127.0.0.65", "127.0.0.66"


@pytest.fixture(scope="module")
def balanced_edge(gateways: tuple[GatewayProcess, GatewayProcess]):
    with running_edge([gateway.port for gateway in gateways], changes=BEHIND_A_BALANCER) as running:
        yield running


@pytest.mark.parametrize(
    ("peer", "said", "client"),
    [
        (BALANCER, "203.0.113.50", "203.0.113.50"),
        (BALANCER, f"{CLAIMED}, 203.0.113.50", "203.0.113.50"),  # what the client invented stands on the left
        (BALANCER, f"{CLAIMED}, 203.0.113.50, {INNER_BALANCER}", "203.0.113.50"),
        (BALANCER, f"{CLAIMED}, 2001:db8::7", "2001:db8::7"),
        (BALANCER, f"{CLAIMED}, garbage", BALANCER),  # not a step further than what the balancer vouches for
        (CLIENT, CLAIMED, CLIENT),  # somebody who is no balancer
    ],
)
async def test_a_balancer_is_believed_about_its_own_clients(
    balanced_edge: Edge, stub: StubServer, key: str, peer: str, said: str, client: str
):
    """With the lines for a balancer in real-ip.conf switched on."""
    async with balanced_edge.client(key, address=peer) as asking:
        await asking.get("/v1/models", headers={"x-forwarded-for": said, "x-real-ip": CLAIMED})
    assert seen_upstream(stub)[:2] == ([client], [client])


async def test_readiness_is_told_to_the_machine_alone(edge: Edge, balanced_edge: Edge):
    async with edge.client() as inside, balanced_edge.client(address=BALANCER) as balancer:
        assert (await inside.get("/ready")).json()["ready"]
        outside = {"x-forwarded-for": "203.0.113.50"}
        assert (await balancer.get("/ready", headers=outside)).status_code == 403
        assert (await balancer.get("/%72eady", headers=outside)).status_code == 403
        assert (await balancer.get("/health", headers=outside)).json() == {"status": "ok"}


async def test_plain_http_is_refused_and_not_redirected(edge: Edge, stub: StubServer, key: str):
    """A key that was sent over http has been read on the way; a redirect would hide that for ever."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{edge.plain_port}") as client:
        answer = await client.post("/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {key}"})
        console = await client.get("/admin/ui/")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "https_required")
    assert (console.status_code, console.headers["location"]) == (301, "https://127.0.0.1/admin/ui/")
    assert stub.requests == []
