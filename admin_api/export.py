"""Exports: rows as CSV or JSON lines, piece by piece as they come, and the file that they go out as.

Where it stands in the walk: controllers answer with `as_file` of what these make of a server-side cursor.

A spreadsheet takes a cell that begins with one of `FORMULA_STARTS` for a formula, and user agents and paths are the
caller's: such a cell gets an apostrophe in front, and every cell is quoted, so that none can begin another one.
"""

import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from litestar.background_tasks import BackgroundTask
from litestar.response import Stream

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", *"\uff1d\uff0b\uff0d\uff20")
"""The last four are the full-width forms, which East Asian spreadsheets read in the same way."""

PIECE_BYTES = 64 * 1024
BOM = "\ufeff".encode()
"""Without it, spreadsheets on Windows take UTF-8 for something else."""


async def as_file(
    rows: AsyncGenerator[msgspec.Struct, None], pieces: AsyncGenerator[bytes, None], *, name: str, media_type: str
) -> Stream:
    """``pieces`` are what is made of ``rows``. The first is asked for before the answer begins, so that an absent store
    is an error and no empty file; where a client leaves in the middle, the cursor is closed and not left to the garbage
    collector.
    """
    first = await anext(pieces)
    return Stream(
        _begun(first, pieces),
        media_type=media_type,
        headers={"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"},
        background=BackgroundTask(_close, rows),
    )


async def as_csv(
    rows: AsyncIterator[msgspec.Struct], columns: Sequence[str], *, bom: bool = False
) -> AsyncGenerator[bytes, None]:
    """A head line, then one line a row, ended by CRLF (RFC 4180); pieces of about `PIECE_BYTES`."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(columns)
    begin = BOM if bom else b""
    async for row in rows:
        writer.writerow([cell(getattr(row, column)) for column in columns])
        if text.tell() >= PIECE_BYTES:
            yield begin + _taken(text)
            begin = b""
    yield begin + _taken(text)


async def as_json_lines(rows: AsyncIterator[msgspec.Struct], *, bom: bool = False) -> AsyncGenerator[bytes, None]:
    """One object a line; pieces of about `PIECE_BYTES`. Without rows one empty piece (or the byte order mark)."""
    encoder = msgspec.json.Encoder()
    piece = bytearray(BOM if bom else b"")
    async for row in rows:
        piece += encoder.encode(row)
        piece += b"\n"
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def cell(value: Any) -> str:
    """A value as a cell's text, harmless to spreadsheets."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA_STARTS) else text


async def _begun(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


async def _close(rows: AsyncGenerator[msgspec.Struct, None]) -> None:
    """A function of its own: Litestar would call the method in a thread, and not await what it returns."""
    await rows.aclose()


def _taken(text: io.StringIO) -> bytes:
    # A lone surrogate in a row from elsewhere must not end the export.
    piece = text.getvalue().encode("utf-8", "replace")
    text.seek(0)
    text.truncate()
    return piece
