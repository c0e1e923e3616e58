"""What a proxy says of a request is read as if its client had sent it here, in each of the ways of saying it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy_core.contracts import Reason, UpstreamProfile
from proxy_core.errors import RequestRefused
from proxy_core.original import OriginalRequest, read_original
from tests.proxy_core.test_no_bypass import CREDENTIALS, paths, queries, trimmed, walked
from tests.support.properties import BOUNDED
from tests.support.walk import UPGRADE

Line = tuple[bytes, bytes]
SOCKET_KEY = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")
NGINX = (b"x-original-method", b"x-original-uri")
FORWARDED = (b"x-forwarded-method", b"x-forwarded-uri")


def asking(way: tuple[bytes, bytes] | None, method: str, target: bytes, lines: list[Line]) -> dict[str, object]:
    """The scope of a question about ``method`` and ``target``; without a way: Envoy's."""
    if way is None:
        path, _, query = target.partition(b"?")
        return scope(b"/sentinel/verdict" + path, *lines, method=method, query=query)
    return scope(b"/sentinel/verdict", *lines, (way[0], method.encode()), (way[1], target))


def scope(path: bytes, *lines: Line, method: str = "GET", query: bytes = b"") -> dict[str, object]:
    return {"method": method, "raw_path": path, "query_string": query, "headers": list(lines)}


@pytest.mark.parametrize("way", [NGINX, FORWARDED, None])
@BOUNDED
@given(
    method=st.sampled_from(["GET", "POST", "OPTIONS", "HEAD"]),
    path=paths,
    query=st.one_of(st.just(b""), queries),
    lines=st.lists(trimmed, max_size=4),
    upgrade=st.booleans(),
)
@example(
    method="GET", path=b"/v1/x", query=b"", lines=[(b"connection", b"x-original-uri, x-forwarded-uri")], upgrade=True
)
def test_the_question_is_read_as_the_request_itself(way, method, path, query, lines, upgrade) -> None:
    """The same refusal, or the same bytes for the upstream, whatever the client sends."""
    credentials = CREDENTIALS[UpstreamProfile.NEW_API, False]
    upgrade = upgrade and method == "GET"
    direct = walked(credentials, method, path, query, [*lines, *((*UPGRADE, SOCKET_KEY) if upgrade else ())])
    target = path + b"?" + query if query else path
    original = read_original(asking(way, method, target, [*lines, SOCKET_KEY] if upgrade else lines))
    told = walked(credentials, original.method, original.raw_path, original.query, original.headers)
    if isinstance(direct, RequestRefused):
        assert isinstance(told, RequestRefused)
        assert (told.status, told.reason, told.detail) == (direct.status, direct.reason, direct.detail)
    else:
        assert not isinstance(told, RequestRefused)
        assert (told.key, told.raw) == (direct.key, direct.raw)


@BOUNDED
@given(
    said=st.lists(
        st.sampled_from(
            [*((name, b"GET") for name in (NGINX[0], FORWARDED[0])), (NGINX[1], b"/a"), (FORWARDED[1], b"/b")]
        )
    ),
    path=st.sampled_from([b"", b"/v1/models"]),
)
def test_nothing_is_guessed(said, path) -> None:
    """Exactly one way, each part of it exactly once, in any order; everything else is refused."""
    complete = [sorted([(way[0], b"GET"), (way[1], target)]) for way, target in ((NGINX, b"/a"), (FORWARDED, b"/b"))]
    original = told(scope(b"/sentinel/verdict" + path, *said))
    if isinstance(original, RequestRefused):
        assert (original.status, original.reason) == (400, Reason.ORIGINAL_REQUEST_UNKNOWN)
        assert said if path else sorted(said) not in complete
        return
    assert not said if path else sorted(said) in complete
    assert original.raw_path == (path or (b"/a" if NGINX[1] in dict(said) else b"/b"))


def told(asking: dict[str, object]) -> OriginalRequest | RequestRefused:
    try:
        return read_original(asking)
    except RequestRefused as refused:
        return refused


def test_the_framing_of_the_question_is_not_the_clients() -> None:
    """A proxy asks without the body, or with one of its own making."""
    framing = [(b"content-length", b"0"), (b"transfer-encoding", b"chunked"), (b"expect", b"x"), (b"upgrade", b"h2c")]
    original = read_original(asking(FORWARDED, "POST", b"/v1/x", [*framing, (b"user-agent", b"curl")]))
    assert original.headers == [(b"user-agent", b"curl")]


def test_a_question_shows_no_header_when_it_is_printed() -> None:
    original = read_original(asking(FORWARDED, "POST", b"/v1/x?key=sk-a", [(b"authorization", b"Bearer sk-a")]))
    assert "sk-a" not in repr(original)
