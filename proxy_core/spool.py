"""Spool files: where event batches wait on disk while Redis cannot take them. Owned by `outbox`, one file a process.

Rules for whoever edits this file:

- The process that holds the `flock` of a file is its only reader and writer. A file whose lock is free belongs to a
  process that died: whoever takes the lock adopts the file, replays it from the start and removes it. Replaying twice
  is harmless, since a batch carries its identity and is applied once.
- A record is ``length (u32) · crc32 (u32) · payload``. A record is appended whole or cut off again, but a crash may
  tear the last one: reading stops at a tail that is too short and steps over a record whose checksum is wrong.
- Everything here blocks: the caller runs it in a thread. Methods lock, since a full queue appends from the event loop.
"""

import contextlib
import fcntl
import logging
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import msgspec

from proxy_core.errors import ProxyError

logger = logging.getLogger(__name__)

_HEADER = struct.Struct(">II")
_SUFFIX = ".spool"
_RECORD_MAX_BYTES = 16 * 1024 * 1024
"""Longer than any batch: a length above it is damage, and nothing after it can be found."""


class SpoolUnavailable(ProxyError):
    """The spool directory or file cannot be created or written: a fault of the installation or a full disk."""


class Chunk(msgspec.Struct, frozen=True):
    """Some records from the front of a spool, in the order they were appended; ``end`` is where the next ones begin."""

    payloads: tuple[bytes, ...]
    end: int


class Spool:
    """One locked spool file. ``close`` is idempotent and removes the file when nothing in it waits any more."""

    def __init__(self, path: Path, fd: int, max_bytes: int) -> None:
        self.path = path
        self.damaged = 0
        self._fd = fd
        self._max_bytes = max_bytes
        self._end = os.fstat(fd).st_size
        self._cursor = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Spool {self.path.name} waiting={self.waiting_bytes} of={self._end}>"

    @classmethod
    def create(cls, directory: Path, name: str, max_bytes: int) -> Self:
        """Raises SpoolUnavailable. ``name`` has to be unique among living processes."""
        path = directory / f"{name}{_SUFFIX}"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # An adopter may lock and remove the file between its creation and our lock: then it is made again.
            while (spool := cls._locked(path, os.O_CREAT, max_bytes)) is None:
                pass
        except OSError as fault:
            raise SpoolUnavailable(f"event spool {directory} cannot be written: {fault.strerror}") from fault
        return spool

    @classmethod
    def adopt(cls, directory: Path, max_bytes: int, *, but: frozenset[Path] = frozenset()) -> Iterator[Self]:
        """Locks and yields the files of dead processes, oldest first. What cannot be read is reported and left."""
        for path in sorted(set(directory.glob(f"*{_SUFFIX}")) - but, key=_modified_at):
            try:
                spool = cls._locked(path, 0, max_bytes)
            except FileNotFoundError:
                continue
            except OSError as fault:
                logger.warning("event spool %s of another process cannot be adopted: %s", path.name, fault.strerror)
                continue
            if spool is not None:
                yield spool

    @classmethod
    def _locked(cls, path: Path, flags: int, max_bytes: int) -> Self | None:
        """None when another process holds the file, or removed it before the lock was ours."""
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink > 0:
                return cls(path, fd, max_bytes)
        except BlockingIOError:
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    @property
    def waiting_bytes(self) -> int:
        """What was appended and not yet taken by `advance`."""
        return self._end - self._cursor

    def append(self, payloads: Sequence[bytes], *, sync: bool = True) -> int:
        """Appends in order and returns how many fitted. Raises SpoolUnavailable if the disk refuses, with nothing kept.

        ``sync`` False skips the fsync: such records survive the death of the process, not of the machine.
        """
        with self._lock:
            kept, records, size = 0, bytearray(), self._end
            for payload in payloads:
                if size + len(records) + _HEADER.size + len(payload) > self._max_bytes:
                    break
                records += _HEADER.pack(len(payload), zlib.crc32(payload)) + payload
                kept += 1
            try:
                _write_all(self._fd, records, self._end)
                if sync and records:
                    os.fdatasync(self._fd)
            except OSError as fault:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self._end)
                raise SpoolUnavailable(f"event spool {self.path} cannot be written: {fault.strerror}") from fault
            self._end += len(records)
            return kept

    def peek(self, max_bytes: int) -> Chunk:
        """The next records, at least one while any is whole. Does not move on: see `advance`."""
        with self._lock:
            payloads: list[bytes] = []
            offset, taken = self._cursor, 0
            while offset < self._end and taken < max_bytes:
                header = os.pread(self._fd, _HEADER.size, offset)
                length, checksum = _HEADER.unpack(header) if len(header) == _HEADER.size else (_RECORD_MAX_BYTES + 1, 0)
                if length > _RECORD_MAX_BYTES or offset + _HEADER.size + length > self._end:
                    self._report_damage(self._end - offset)
                    offset = self._end
                    break
                payload = os.pread(self._fd, length, offset + _HEADER.size)
                offset += _HEADER.size + length
                if zlib.crc32(payload) == checksum:
                    payloads.append(payload)
                    taken += length
                else:
                    self._report_damage(length)
            if not payloads:
                self._cursor = offset  # only damage lay here: it is reported once
            return Chunk(tuple(payloads), offset)

    def advance(self, chunk: Chunk) -> None:
        """Moves on behind ``chunk``. They stay in the file until `clear`, for an adopter to find after a crash."""
        with self._lock:
            self._cursor = max(self._cursor, chunk.end)

    def clear(self) -> None:
        """Forgets the records that `advance` moved past, if that is all of them: PostgreSQL has them by now."""
        with self._lock:
            if self._end and self._cursor >= self._end:
                os.ftruncate(self._fd, 0)
                self._end = self._cursor = 0

    def close(self) -> None:
        with self._lock:
            if self._fd < 0:
                return
            if self._end == 0:
                with contextlib.suppress(FileNotFoundError):
                    self.path.unlink()
            os.close(self._fd)
            self._fd = -1

    def _report_damage(self, size_bytes: int) -> None:
        self.damaged += 1
        logger.warning("event spool %s: %d bytes are torn or damaged and were left out", self.path.name, size_bytes)


def _write_all(fd: int, data: bytes | bytearray, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _modified_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
