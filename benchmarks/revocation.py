"""``python -m benchmarks.revocation URL``: how long an open WebSocket outlives the ban of its key.

For a gateway with its admin API at one URL, such as ``sentinel up --demo``. ADMIN_PASSWORD signs in, MODEL_KEY is a key
whose upstream takes WebSockets; it must be allowed from here, and is again afterwards. A time is from the moment in
which the operator's ban is sent until the client has the close: HTTP, PostgreSQL and Redis included.
"""

import asyncio
import os
import sys
import time

import click
import httpx
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from benchmarks.figures import percentile

GIVE_UP_S = 30.0
TRY_AGAIN_S = 0.01
POLICY_VIOLATION = 1008


@click.command()
@click.argument("url")
@click.option("--times", default=50, show_default=True)
def command(url: str, times: int) -> None:
    """Ban the key at URL, such as http://127.0.0.1:7000, while a WebSocket of it is open."""
    password, key = os.environ.get("ADMIN_PASSWORD"), os.environ.get("MODEL_KEY")
    if not password or not key:
        sys.exit("revocation: ADMIN_PASSWORD or MODEL_KEY is missing: an operator's password, a key of the upstream's")
    closed_ms, answered_ms = asyncio.run(_measure(url.rstrip("/"), password, key, times))
    table = Table("from the ban until", "p50 ms", "p95 ms", "largest ms")
    for name, taken in (("the client has the close", closed_ms), ("the operator has an answer", answered_ms)):
        taken.sort()
        table.add_row(name, *(f"{figure or 0:.1f}" for figure in (*_percentiles(taken), taken[-1])))
    Console().print(table)


def _percentiles(ordered: list[float]) -> tuple[float | None, float | None]:
    return percentile(ordered, 0.5), percentile(ordered, 0.95)


async def _measure(url: str, password: str, key: str, times: int) -> tuple[list[float], list[float]]:
    closed_ms, answered_ms = [], []
    async with httpx.AsyncClient(base_url=f"{url}/admin/api", timeout=GIVE_UP_S, trust_env=False) as client:
        signed_in = (
            (await client.post("/login", json={"name": "admin", "password": password})).raise_for_status().json()
        )
        client.headers["authorization"] = f"Bearer {signed_in['access_token']}"
        for _ in range(times):
            socket = await _opened(url, key)
            found = (await client.post("/bindings/lookup", json={"key": key})).raise_for_status().json()
            ids = {"ids": [found["binding"]["id"]]}
            began = time.perf_counter()
            banning = asyncio.create_task(_ban(client, ids))
            try:
                await _closed(socket)
                closed_ms.append((time.perf_counter() - began) * 1000)
                answered_ms.append(await banning)
            finally:
                (await client.post("/bindings/unban", json=ids)).raise_for_status()
    return closed_ms, answered_ms


async def _ban(client: httpx.AsyncClient, ids: dict[str, list[int]]) -> float:
    """The time that its answer took, in ms."""
    began = time.perf_counter()
    (await client.post("/bindings/ban", json={**ids, "reason": "benchmark"})).raise_for_status()
    return (time.perf_counter() - began) * 1000


async def _opened(url: str, key: str) -> ClientConnection:
    """As soon as the gateway knows that the key may be used again."""
    target = f"{url.replace('http', 'ws', 1)}/v1/realtime?model=m"
    async with asyncio.timeout(GIVE_UP_S):
        while True:
            try:
                return await connect(target, additional_headers={"authorization": f"Bearer {key}"}, proxy=None)
            except InvalidStatus as refused:
                if refused.response.status_code != httpx.codes.FORBIDDEN:
                    raise
                await asyncio.sleep(TRY_AGAIN_S)


async def _closed(socket: ClientConnection) -> None:
    async with asyncio.timeout(GIVE_UP_S):
        try:
            await socket.recv()
        except ConnectionClosed as ended:
            if ended.rcvd is not None and ended.rcvd.code == POLICY_VIOLATION:
                return
    sys.exit("revocation: the socket was not closed for the ban of its key")


if __name__ == "__main__":
    command()
