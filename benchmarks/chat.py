"""Scenario chat: a POST of 130 bytes answered by 328 bytes, 64 keep-alive connections, closed loop.

The system under test has a core for itself; the upstream (nginx, constant answer), wrk and Sentinel's stores have the
other. Rounds are interleaved over the peers, so that a busy minute of the machine hits all of them.
"""

import http.client
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from benchmarks import wrk
from benchmarks.figures import per
from benchmarks.processes import Bench, BenchError, cpu_s, rss_mib

PATH = "/v1/chat/completions"
WARM_UP_S = 2


class Peer(NamedTuple):
    """A system under test that is up: where it listens, whose CPU time counts, whose is told apart."""

    name: str
    url: str
    pids: tuple[int, ...]
    stores_pids: tuple[int, ...] = ()


class ChatRound(msgspec.Struct, frozen=True):
    """One run of wrk against one peer. ``core_share`` near 1: the peer had, and used, its core all the time."""

    requests_per_s: float
    cpu_us_per_request: float | None
    stores_cpu_us_per_request: float | None
    core_share: float | None
    rss_mib: float | None
    wrk: wrk.WrkFigures


def run(
    peers: Sequence[Peer], bench: Bench, *, rounds: int, seconds: int, core: int, key: str, say: Callable[[str], None]
) -> dict[str, list[ChatRound]]:
    """Raises BenchError when a peer does not answer the first request with 200."""
    measured: dict[str, list[ChatRound]] = {peer.name: [] for peer in peers}
    for peer in peers:
        first_request(peer, key)
    for number in range(1, rounds + 1):
        for peer in peers:
            if number == 1:
                wrk.run(peer.url + PATH, seconds=WARM_UP_S, core=core, key=key, folder=bench.folder)
            done = _round(peer, bench, seconds=seconds, core=core, key=key)
            measured[peer.name].append(done)
            say(f"chat {number}/{rounds} {peer.name}: {describe(done)}")
    return measured


def _round(peer: Peer, bench: Bench, *, seconds: int, core: int, key: str) -> ChatRound:
    before, stores_before, began = cpu_s(*peer.pids), cpu_s(*peer.stores_pids), time.monotonic()
    figures = wrk.run(peer.url + PATH, seconds=seconds, core=core, key=key, folder=bench.folder)
    used, stores_used = _since(before, cpu_s(*peer.pids)), _since(stores_before, cpu_s(*peer.stores_pids))
    cpu = per(used, figures.requests)
    stores_cpu = per(stores_used, figures.requests)
    return ChatRound(
        requests_per_s=figures.requests / figures.duration_s,
        cpu_us_per_request=None if cpu is None else cpu * 1e6,
        stores_cpu_us_per_request=None if stores_cpu is None else stores_cpu * 1e6,
        core_share=None if used is None else used / (time.monotonic() - began),
        rss_mib=rss_mib(*peer.pids),
        wrk=figures,
    )


def _since(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def describe(done: ChatRound) -> str:
    cpu = "CPU unknown" if done.cpu_us_per_request is None else f"{done.cpu_us_per_request:.1f} µs CPU a request"
    errors = done.wrk.status_errors + done.wrk.socket_errors
    failed = f", {errors} ERRORS" if errors else ""
    return (
        f"{done.requests_per_s:,.0f} req/s, {cpu}, p50 {done.wrk.p50_ms:.2f} ms, p99 {done.wrk.p99_ms:.2f} ms{failed}"
    )


def first_request(peer: Peer, key: str) -> None:
    """Binds the key (Sentinel: first use) and proves that the peer proxies at all."""
    where = urlsplit(peer.url)
    connection = http.client.HTTPConnection(where.hostname or "127.0.0.1", where.port or 80, timeout=20)
    try:
        connection.request(
            "POST", PATH, wrk.BODY, {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        body = answer.read()
    except OSError as error:
        raise BenchError(f"{peer.name} at {peer.url} does not answer: {error}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise BenchError(f"{peer.name} answered the first request with {answer.status}: {body[:300]!r}")
