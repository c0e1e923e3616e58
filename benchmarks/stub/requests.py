"""A request as it reached the stub: what `connection` fills in, `routes` decides on and tests look at."""

import hashlib
from urllib.parse import unquote_to_bytes

import msgspec


class RecordedRequest:
    """One request, in the making until ``complete``: recorded when its head ended, its body counted as it arrives.

    ``head`` is every byte from the request line to the empty line. ``headers`` are the lines in order, names in the
    letter case of arrival; ``trailers`` what followed a chunked body.
    """

    __slots__ = (
        "_chunks",
        "_hash",
        "body_bytes",
        "complete",
        "first",
        "head",
        "headers",
        "http10",
        "method",
        "path",
        "query",
        "target",
        "trailers",
    )

    def __init__(self) -> None:
        self.head = b""
        self.method = b""
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.trailers: list[tuple[bytes, bytes]] = []
        self.first: dict[bytes, bytes] = {}
        """First line of each header by lower-case name: the only one that Go's ``Header.Get`` reads."""
        self.path = ""
        self.query = b""
        self.http10 = False
        self.body_bytes = 0
        self.complete = False
        self._hash: hashlib._Hash | None = None
        self._chunks: list[bytes] = []

    def __repr__(self) -> str:
        state = "complete" if self.complete else "incomplete"
        return f"<RecordedRequest {self.method.decode()} {self.path} {self.body_bytes} bytes, {state}>"

    def split_target(self) -> None:
        """Fill ``path`` (decoded, as gin sees it, absolute form cut down) and ``query`` from ``target``."""
        target = self.target
        if not target.startswith(b"/") and b"://" in target:
            _, _, rest = target.partition(b"://")
            target = b"/" + rest.partition(b"/")[2]
        raw_path, _, self.query = target.partition(b"?")
        if b"%" in raw_path:
            raw_path = unquote_to_bytes(raw_path)
        self.path = raw_path.decode("utf-8", "surrogateescape")

    def hash_body(self) -> None:
        """Keep a running SHA-256 of the body from here on."""
        if self._hash is None:
            self._hash = hashlib.sha256()

    def take(self, chunk: bytes, *, hold: bool) -> None:
        self.body_bytes += len(chunk)
        if self._hash is not None:
            self._hash.update(chunk)
        if hold:
            self._chunks.append(chunk)

    @property
    def body(self) -> bytes:
        """What a route that holds its body (JSON routes) got; empty on the routes that only count and hash."""
        return b"".join(self._chunks)

    @property
    def body_sha256(self) -> str | None:
        """Hex digest of what has arrived so far; None where the body was not hashed."""
        return None if self._hash is None else self._hash.hexdigest()

    def values(self, name: str) -> list[str]:
        """Every line of one header, in order (Latin-1), whatever its letter case."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == wanted]


class Stats(msgspec.Struct):
    """The counters served at ``/stub/stats``. ``aborted``: clients that left before their answer was complete."""

    connections: int = 0
    requests: int = 0
    open_connections: int = 0
    open_requests: int = 0
    aborted: int = 0
    refused: int = 0
    frames: int = 0
