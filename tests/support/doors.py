"""A TCP port in front of a Unix socket that only we may open: for processes of another user, as in a container."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from sentinel.services import Stores


@contextlib.asynccontextmanager
async def stores_over_tcp(stores: Stores, dsn: str) -> AsyncIterator[dict[str, str]]:
    """The settings that lead to the database of ``dsn`` and to the Valkey beside it."""
    parts = urlsplit(dsn)
    postgres = Path(parse_qs(parts.query)["host"][0], ".s.PGSQL.5432")
    valkey = Path(urlsplit(stores.redis_url).path)
    async with tcp_door(postgres) as pg_port, tcp_door(valkey) as redis_port:
        yield {
            "PG_DSN": f"postgresql://{parts.username}@127.0.0.1:{pg_port}{parts.path}",
            "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        }


@contextlib.asynccontextmanager
async def tcp_door(socket: Path) -> AsyncIterator[int]:
    """The port on 127.0.0.1. At the end what is open is cut."""
    open_writers: set[asyncio.StreamWriter] = set()
    visits: set[asyncio.Task[None]] = set()

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(str(socket))
        open_writers.update((writer, inner_writer))
        ways = [asyncio.create_task(_carry(reader, inner_writer)), asyncio.create_task(_carry(inner_reader, writer))]
        visits.update(ways)
        await asyncio.gather(*ways)

    server = await asyncio.start_server(visit, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in open_writers:
            writer.transport.abort()
        await asyncio.gather(*visits)
        await server.wait_closed()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
