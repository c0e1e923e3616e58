"""The ``x-stub-*`` request headers: how a test asks the stub to misbehave.

| header | value | effect |
|---|---|---|
| ``x-stub-frames`` | count | content frames of a stream (default 64) |
| ``x-stub-interval-ms`` | milliseconds | their distance (default 20; 0 sends as fast as the connection takes) |
| ``x-stub-delay-ms`` | milliseconds | wait before the head |
| ``x-stub-status`` | status | answer that status with an error in OpenAI's shape |
| ``x-stub-cut-after`` | ``N`` or ``N rst`` | break the connection off after N bytes of body (frames of a stream) |
| ``x-stub-stall`` | ``head`` or ``N`` | never answer, or fall silent after N bytes (frames) |
| ``x-stub-close`` | ``1`` or ``1.0`` | body without a length, ended by closing; ``1.0``: also an HTTP/1.0 status line |
| ``x-stub-early`` | ``1`` | answer at the end of the request head, read the body afterwards |
| ``x-stub-1xx`` | ``103``, ``103 103``, ``102`` … | informational heads first |
| ``x-stub-chunked`` | N | body in chunks of N bytes |
"""

from collections.abc import Mapping

import msgspec


class Switches(msgspec.Struct, frozen=True):
    """What a request asked for; the defaults are a well-behaved upstream."""

    frames: int = 64
    interval_s: float = 0.02
    delay_s: float = 0.0
    status: int | None = None
    cut_after: int | None = None
    cut_with_reset: bool = False
    stall_head: bool = False
    stall_after: int | None = None
    close: bool = False
    http10: bool = False
    early: bool = False
    informational: tuple[int, ...] = ()
    chunk_bytes: int | None = None

    @classmethod
    def read(cls, head: bytes, first: Mapping[bytes, bytes]) -> "Switches":
        """From the first line of each header by lower-case name. Raises ValueError for a value that means nothing."""
        if b"x-stub-" not in head.lower():
            return WELL_BEHAVED
        given = {}
        for name, value in first.items():
            if name.startswith(b"x-stub-"):
                given[name[7:].decode("latin-1")] = value.decode("latin-1").strip()
        return cls.from_texts(given) if given else WELL_BEHAVED

    @classmethod
    def from_texts(cls, given: Mapping[str, str]) -> "Switches":
        cut, _, how = given.get("cut-after", "").partition(" ")
        stall = given.get("stall", "")
        close = given.get("close", "")
        return cls(
            frames=_count(given.get("frames"), 64),
            interval_s=_count(given.get("interval-ms"), 20) / 1000,
            delay_s=_count(given.get("delay-ms"), 0) / 1000,
            status=_status(given.get("status")),
            cut_after=_count(cut) if cut else None,
            cut_with_reset=how.strip() == "rst",
            stall_head=stall == "head",
            stall_after=_count(stall) if stall not in ("", "head") else None,
            close=close not in ("", "0"),
            http10=close == "1.0",
            early=given.get("early", "") not in ("", "0"),
            informational=tuple(int(status) for status in given.get("1xx", "").split()),
            chunk_bytes=max(1, _count(given["chunked"])) if given.get("chunked") else None,
        )

    @property
    def body_limit(self) -> int | None:
        """After how many bytes (frames) of body to cut or stall."""
        return self.cut_after if self.cut_after is not None else self.stall_after


def _count(text: str | None, default: int = 0) -> int:
    if text is None:
        return default
    number = int(text)
    if number < 0:
        raise ValueError(f"negative count: {text}")
    return number


def _status(text: str | None) -> int | None:
    if text is None:
        return None
    status = int(text)
    if not 200 <= status <= 599:
        raise ValueError(f"no final status: {text}")
    return status


WELL_BEHAVED = Switches()
