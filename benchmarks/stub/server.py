"""The stub's life: listening, counting, stopping; in a process of its own (`main`) or inside a test (`StubServer`)."""

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Self

import uvloop

from benchmarks.stub.connection import StubConnection
from benchmarks.stub.keys import KeyRing
from benchmarks.stub.pacing import TimerWheel
from benchmarks.stub.requests import RecordedRequest, Stats


class StubServer:
    """``async with StubServer(keys=[…]) as stub``: listens on ``stub.port``, keeps each request in ``stub.requests``.

    Closing breaks open connections off. ``record=False`` keeps nothing (and hashes no body where no route asks).
    """

    def __init__(
        self,
        keys: Iterable[str] = (),
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        any_key: bool = False,
        record: bool = True,
    ) -> None:
        self.host = host
        self.port = port
        self.keys = KeyRing(tuple(keys), any_key=any_key)
        self.stats = Stats()
        self.requests: list[RecordedRequest] = []
        self.connections: set[StubConnection] = set()
        self._recording = record
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self.wheel = TimerWheel(loop)
        self._server = await loop.create_server(lambda: StubConnection(self), self.host, self.port, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            for connection in list(self.connections):
                connection.abort()
            await self._server.wait_closed()
        self.wheel.close()

    def record(self, request: RecordedRequest) -> bool:
        if self._recording:
            self.requests.append(request)
        return self._recording

    async def until(self, condition: Callable[[Stats], bool], *, limit_s: float = 20.0) -> None:
        """For tests: return when the counters fulfil the condition. Raises TimeoutError."""
        async with asyncio.timeout(limit_s):
            # Polled: the counters tell nobody that they changed, which keeps the hot path free of waiting tests.
            while not condition(self.stats):  # noqa: ASYNC110
                await asyncio.sleep(0.001)


async def _run(host: str, port: int, keys: list[str], *, any_key: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gc.collect()
    gc.freeze()
    async with StubServer(keys, host=host, port=port, any_key=any_key, record=False) as stub:
        if port == 0:
            print(f"PORT={stub.port}", flush=True)
        print(f"stub model API listening on {stub.url}", file=sys.stderr, flush=True)
        await stop.wait()


def main(host: str, port: int, keys: list[str], *, any_key: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; ``port`` 0 takes a free one and prints ``PORT=…`` on stdout."""
    uvloop.run(_run(host, port, keys, any_key=any_key))
