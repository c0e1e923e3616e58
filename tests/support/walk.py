"""The pure part of a request's way through the data plane, in the order of `proxy_core.handler`, for tests.

`assert_only_this_key` is the acceptance test of ``new-api-auth``: what goes to the upstream, parsed again as raw HTTP
by the re-stated upstream of every version, holds the one key that Sentinel enforced, or none.
"""

from typing import NamedTuple
from urllib.parse import parse_qsl

from proxy_core.contracts import ClientAddress, HeaderList, ModelKey, RequestHead, Route, UpstreamProfile
from proxy_core.credentials import Credentials
from proxy_core.errors import RequestRefused
from proxy_core.headers import read_request_head, write_request_head
from tests.support import new_api

SECRET = b"a secret of this test alone, long enough"
ADDRESS = ClientAddress("192.0.2.7", b"192.0.2.7", 4, 0xC0000207)
UPGRADE = ((b"connection", b"Upgrade"), (b"upgrade", b"websocket"))
CARRIERS = (b"authorization", b"x-api-key", b"x-goog-api-key", b"mj-api-secret", b"sec-websocket-protocol")
VERSIONS = {
    UpstreamProfile.NEW_API: new_api.NEW_API_VERSIONS,
    UpstreamProfile.ONE_API: (new_api.Version.ONE_API,),
    UpstreamProfile.OPENAI: (new_api.Version.OPENAI,),
}
WEBSOCKET_KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


V = "Vv1" * 16
D = "Dd2" * 16
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJuZXctYXBpIn0.c2lnbmF0dXJlLXdpdGgtaHlwaGVu"
PAT = "Q2hhbmdlTWVOb3dQbGVhc2UrLz0="


class Passed(NamedTuple):
    """What a request that was not refused was taken for, and the head that the upstream gets."""

    route: Route
    head: RequestHead
    key: ModelKey | None
    raw: bytes


def walk(credentials: Credentials, method: str, raw_path: bytes, query: bytes, lines: HeaderList) -> Passed:
    """Raises RequestRefused. ``lines`` are as a server hands them on: names in lower case, values trimmed."""
    route = credentials.classify(method, raw_path)
    head = read_request_head(lines)
    key = credentials.read(route, method, raw_path, query, head)
    rewritten = credentials.rewrite(route, method, raw_path, query, head, key)
    raw = write_request_head(
        method,
        rewritten.target,
        head,
        credential=rewritten.headers,
        address=ADDRESS,
        scheme=b"https",
        request_id=b"r-1",
        websocket_key=WEBSOCKET_KEY if head.upgrade else b"",
    )
    return Passed(route, head, key, raw)


def new_api_credentials() -> Credentials:
    return Credentials(SECRET, UpstreamProfile.NEW_API)


def lines_of(*headers: str | tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Header lines as a server hands them on, from ``name: value`` in UTF-8, or as bytes."""
    lines = [(b"host", b"api.example")]
    for header in headers:
        if isinstance(header, str):
            name, _, value = header.partition(":")
            lines.append((name.lower().encode(), value.strip(" \t").encode()))
        else:
            lines.append(header)
    return lines


def outcome(method: str, target: str, *headers: str | tuple[bytes, bytes]) -> str | int:
    """The key that Sentinel enforced, ``""`` for none, or the status of its refusal; checks what went upstream."""
    path, _, query = target.encode().partition(b"?")
    try:
        passed = walk(new_api_credentials(), method, path, query, lines_of(*headers))
    except RequestRefused as refused:
        return refused.status
    assert_only_this_key(passed)
    return passed.key.text.decode() if passed.key is not None else ""


# -- what the upstream gets, whatever came in


def assert_only_this_key(passed: Passed, profile: UpstreamProfile = UpstreamProfile.NEW_API) -> new_api.Request:
    """Every reader of every version of the profile finds the enforced key, or none if there was none."""
    request = new_api.parse(passed.raw)
    for version in VERSIONS[profile]:
        found = new_api.keys(request, version)
        if passed.key is None:
            assert found == {}, version
        else:
            assert set(found.values()) <= {passed.key.text}, version
            assert found or not new_api.takes_model_keys(request.method, request.path, version), version
    assert_no_other_credential(passed, request, prefix=b"" if profile is UpstreamProfile.OPENAI else b"sk-")
    return request


def assert_no_other_credential(passed: Passed, request: new_api.Request, *, prefix: bytes) -> None:
    """No carrier holds a byte that the client chose, apart from the key that passed the grammar."""
    key = passed.key
    secret = prefix + key.text + (key.suffix if passed.route.pins_channel else b"") if key is not None else None
    assert request.headers.get(b"mj-api-secret") is None
    assert not [name for name in request.headers if name.replace(b"_", b"-") in CARRIERS and name not in CARRIERS]
    for name in (b"x-api-key", b"x-goog-api-key"):
        assert request.headers.get(name) in (None, [secret])
    if key is not None:
        assert request.headers[b"authorization"] == [b"Bearer " + secret]
    elif not passed.route.session:
        assert b"authorization" not in request.headers
    elif passed.route.bound:
        assert all(b"." in value.partition(b"-")[0] for value in request.headers.get(b"authorization", ()))
    if passed.route.bound or key is not None:
        assert_no_key_parameter(request.query)
    assert_protocols(passed, request, secret)


def assert_no_key_parameter(query: bytes) -> None:
    """No parser finds a parameter named key, whatever it thinks of ``;``, blanks and malformed escapes."""
    assert new_api.query_values(query, b"key") == []
    text = query.decode("latin-1")
    for separated in (text, text.replace(";", "&")):
        assert "key" not in dict(parse_qsl(separated, keep_blank_values=True, encoding="latin-1"))


def assert_protocols(passed: Passed, request: new_api.Request, secret: bytes | None) -> None:
    offered = request.headers.get(b"sec-websocket-protocol")
    if offered is None:
        return
    assert passed.head.upgrade
    assert secret is not None
    assert len(offered) == 1
    for item in offered[0].split(b", "):
        assert item == b"openai-insecure-api-key." + secret or b"openai-insecure-api-key" not in item.lower()
        assert not item.startswith(b"sk-")
