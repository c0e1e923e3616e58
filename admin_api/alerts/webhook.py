"""One POST to one webhook: to the address that was judged, within a time limit, and nowhere else.

Where it stands in the walk: `sending` calls it. Raises nothing: each way to fail is a `SendOutcome`.

Rules for whoever edits this file:

- The name is resolved once an attempt, every address of it is judged, and the connection goes to one of these: nobody
  resolves again between the judgement and the connection, and the next attempt judges anew (DNS rebinding).
- Host, SNI and the certificate's check keep the name. No proxy of the environment is used: it would resolve.
- No redirect is followed. Of the answer nothing but the status is read, and nothing but that is told.
- No URL, and no text of an exception (which has the URL in it), goes to the log or into a row.
"""

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import httpx
import msgspec

from admin_api.alerts.addresses import IPAddress, PrivateTargets, allows_plain_http, is_allowed
from admin_api.schemas.alerts import SendOutcome, SendResult

LIMIT_S = 10.0
"""For everything: the name, the connection, the answer's head."""

RESOLVE_LIMIT_S = 4.0
CONNECT_LIMIT_S = 3.0
ADDRESSES_MAX = 4
"""Of a name's addresses, those that are tried: an IPv6 address that leads nowhere is common."""

PORT_MAX = 65_535

Resolve = Callable[[str, int], Awaitable[list[IPAddress]]]


class _Refused(Exception):
    def __init__(self, outcome: SendOutcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


class Post(msgspec.Struct, frozen=True):
    """What is sent. ``headers`` have the signature; ``url`` is a secret."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return "Post(…)"


def parsed(text: str) -> httpx.URL | None:
    """None: nothing can be posted there."""
    try:
        url = httpx.URL(text)
        host = url.raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError):
        return None
    return url if url.scheme in ("http", "https") and host and (url.port or 1) <= PORT_MAX else None


async def resolve(host: str, port: int) -> list[IPAddress]:
    """As the system does it. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ipaddress.ip_address(address[0]) for *_, address in found))


async def post(
    what: Post,
    policy: PrivateTargets,
    *,
    resolve: Resolve = resolve,
    verify: ssl.SSLContext | None = None,
    limit_s: float = LIMIT_S,
) -> SendResult:
    """``verify`` None: certificates are verified against the usual authorities."""
    began = time.monotonic()
    status: int | None = None
    try:
        async with asyncio.timeout(limit_s):
            url = _usable(what.url)
            addresses = await _judged(url, policy, resolve)
            status = await _post(url, addresses, what, verify)
        outcome = _outcome(status)
    except _Refused as refused:
        outcome = refused.outcome
    except TimeoutError:
        outcome = SendOutcome.TIMEOUT
    return SendResult(outcome, int((time.monotonic() - began) * 1000), status)


def _usable(text: str) -> httpx.URL:
    url = parsed(text)
    if url is None:
        raise _Refused(SendOutcome.BAD_URL)
    return url


async def _judged(url: httpx.URL, policy: PrivateTargets, resolve: Resolve) -> Sequence[IPAddress]:
    host, port = url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)
    try:
        async with asyncio.timeout(RESOLVE_LIMIT_S):
            addresses = await resolve(host, port)
    except (OSError, UnicodeError, ValueError):  # TimeoutError is an OSError
        raise _Refused(SendOutcome.UNRESOLVABLE) from None
    if not addresses:
        raise _Refused(SendOutcome.UNRESOLVABLE)
    # One bad address among good ones is an attack or a mistake; neither is sent to.
    if not all(is_allowed(address, policy) for address in addresses):
        raise _Refused(SendOutcome.REFUSED_ADDRESS)
    if url.scheme == "http" and not all(allows_plain_http(address) for address in addresses):
        raise _Refused(SendOutcome.HTTPS_REQUIRED)
    return addresses[:ADDRESSES_MAX]


async def _post(url: httpx.URL, addresses: Sequence[IPAddress], what: Post, verify: ssl.SSLContext | None) -> int:
    limits = httpx.Timeout(LIMIT_S, connect=CONNECT_LIMIT_S)
    fault = SendOutcome.CONNECT_FAILED
    async with httpx.AsyncClient(
        verify=True if verify is None else verify, trust_env=False, follow_redirects=False, timeout=limits
    ) as client:
        for address in addresses:
            try:
                return await _post_to(client, address, url, what)
            except (httpx.ConnectError, httpx.ConnectTimeout) as failed:
                fault = SendOutcome.TLS_FAILED if _is_about_tls(failed) else SendOutcome.CONNECT_FAILED
            except httpx.TimeoutException:
                raise _Refused(SendOutcome.TIMEOUT) from None
            except (httpx.HTTPError, ValueError):
                raise _Refused(SendOutcome.PROTOCOL_ERROR) from None
    raise _Refused(fault)


async def _post_to(client: httpx.AsyncClient, address: IPAddress, url: httpx.URL, what: Post) -> int:
    host = url.raw_host.decode("ascii")
    request = client.build_request(
        "POST",
        url.copy_with(host=str(address)),
        content=what.body,
        headers={
            "host": url.netloc.decode("ascii"),
            "content-type": "application/json; charset=utf-8",
            "user-agent": "key-ip-sentinel",
            "accept": "*/*",
            **what.headers,
        },
        extensions={"sni_hostname": host},
    )
    answer = await client.send(request, stream=True)
    await answer.aclose()
    return answer.status_code


def _outcome(status: int) -> SendOutcome:
    if 200 <= status < 300:
        return SendOutcome.DELIVERED
    if status == 410:
        return SendOutcome.GONE
    return SendOutcome.REDIRECT if 300 <= status < 400 else SendOutcome.HTTP_ERROR


def _is_about_tls(fault: BaseException | None) -> bool:
    """httpx says ConnectError of a refused connection and of a bad certificate alike."""
    while fault is not None:
        if isinstance(fault, ssl.SSLError):
            return True
        fault = fault.__cause__ or fault.__context__
    return False
