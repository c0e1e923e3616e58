"""Client heads for tests: header lines in, the head that the upstream gets out."""

from proxy_core.contracts import HeaderList, RequestHead
from proxy_core.errors import RequestRefused
from proxy_core.headers import read_request_head, write_request_head
from tests.support import new_api
from tests.support.walk import ADDRESS, WEBSOCKET_KEY

Lines = list[tuple[bytes, bytes]]
HOST = (b"host", b"api.example")


def lines_of(*texts: str) -> Lines:
    """``name: value`` texts as header lines after a Host."""
    pairs = (text.partition(":") for text in texts)
    return [HOST, *((name.encode("latin-1"), value.strip(" ").encode("latin-1")) for name, _, value in pairs)]


def written(
    head: RequestHead, method: str = "POST", target: bytes = b"/v1/x?a=1", credential: HeaderList = ()
) -> bytes:
    return write_request_head(
        method,
        target,
        head,
        credential=credential,
        address=ADDRESS,
        scheme=b"https",
        request_id=b"r-1",
        websocket_key=WEBSOCKET_KEY if head.upgrade else b"",
    )


def forwarded(*texts: str) -> dict[bytes, list[bytes]]:
    """All header lines that the upstream gets."""
    return new_api.parse(written(read_request_head(lines_of(*texts)))).headers


def refusal_of(lines: HeaderList) -> RequestRefused | None:
    try:
        read_request_head(lines)
    except RequestRefused as refused:
        return refused
    return None
