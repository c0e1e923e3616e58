"""How a key is replaced and identified, and how routes without one are told from those with one.

Every request goes the way that `handler` sends it, and what comes out is parsed as raw HTTP by the re-stated upstream.
`test_credential_vectors` has the specification's tables, `test_no_bypass` the requests that nobody thought of.
"""

import hashlib
import hmac

import pytest

from proxy_core.contracts import Dialect, ModelKey, Reason, RequestHead, Route, UpstreamProfile
from proxy_core.credentials import Credentials, Rewritten, selected_protocol
from proxy_core.errors import RequestRefused
from proxy_core.headers import read_request_head
from tests.support import new_api
from tests.support.walk import (
    JWT,
    PAT,
    SECRET,
    UPGRADE,
    D,
    V,
    assert_only_this_key,
    lines_of,
    new_api_credentials,
    outcome,
    walk,
)

# -- what the upstream's handlers look at (section 2.4)


def passed(method: str, target: str, *headers: str | tuple[bytes, bytes], pins: bool = False) -> new_api.Request:
    """The request as the upstream parses it."""
    path, _, query = target.encode().partition(b"?")
    credentials = Credentials(SECRET, UpstreamProfile.NEW_API, allow_channel_suffix=pins)
    return assert_only_this_key(walk(credentials, method, path, query, lines_of(*headers)))


@pytest.mark.parametrize(
    ("target", "headers", "present"),
    [
        ("/v1/models", ("x-api-key: V", "anthropic-version: 2023-06-01"), "x-api-key"),
        ("/v1/models/claude", ("x-api-key: V", "anthropic-version: 2023-06-01"), "x-api-key"),
        ("/v1/models", ("x-goog-api-key: V",), "x-goog-api-key"),
        ("/v1/models?key=V", (), "x-goog-api-key"),
        ("/v1/models?alt=sse&%6bey=sk-V", ("x-api-key: V",), "x-goog-api-key"),
    ],
)
def test_model_lists_keep_the_header_that_chooses_their_format(target, headers, present) -> None:
    """Where the upstream picks a format by a carrier's presence, that carrier is there, with the enforced key."""
    request = passed("GET", target, *headers)
    assert request.first(present.encode()) == b"sk-V"
    assert request.first(b"authorization") == b"Bearer sk-V"


@pytest.mark.parametrize("target", ["/v1/messages", "/v1beta/models/m:gc", "/v1/models/m:gc", "/jimeng/"])
def test_other_routes_get_the_authorization_header_alone(target) -> None:
    """``Authorization`` is enough for every version, so no other carrier is made where no handler asks for it."""
    request = passed("POST", target + "?key=V&alt=sse", "x-api-key: V", "x-goog-api-key: V", "mj-api-secret: V")
    assert {name for name in request.headers if b"key" in name or b"secret" in name} == set()
    assert request.query == b"alt=sse"


@pytest.mark.parametrize(
    ("offered", "sent"),
    [
        ("realtime, openai-insecure-api-key.V, openai-beta.realtime-v1", "realtime, {}, openai-beta.realtime-v1"),
        ("openai-insecure-api-key.sk-V", "{}"),
        ("realtime", "realtime, {}"),
        ("realtime,, openai-insecure-api-key.V,openai-insecure-api-key.v", "realtime, {}"),
    ],
)
def test_websocket_subprotocols_keep_their_order_around_the_key(offered, sent) -> None:
    """The key item is replaced where it stood, and added where [H] would take the rest for the key."""
    request = passed("GET", "/v1/realtime", *UPGRADE, f"Sec-WebSocket-Protocol: {offered}", "Authorization: Bearer V")
    assert request.first(b"sec-websocket-protocol").decode() == sent.format("openai-insecure-api-key.sk-V")


@pytest.mark.parametrize(
    ("offered", "status"),
    [
        ("realtime, openai-insecure-api-keysk-V", 401),
        ("openai-insecure-api-key", 401),
        ("OpenAI-Insecure-API-Key.sk-V", 401),
        ("\u00a0openai-insecure-api-key.sk-V", 401),
        ("openai-insecure-api-key.Bearer sk-V", 401),
        ("realtime, a b", 400),
        ("realtime, \u3000x", 400),
        ("realtime/1", 400),
    ],
)
def test_strange_subprotocols_are_refused(offered, status) -> None:
    """What nearly names a key, or is no token, is neither repaired nor passed on in a handshake."""
    headers = (*UPGRADE, f"Sec-WebSocket-Protocol: {offered}", "Authorization: Bearer V")
    assert outcome("GET", "/v1/realtime", *headers) == status


def test_empty_carriers_are_no_presence() -> None:
    """The upstream's handlers ask for a value, so an empty line chooses no format."""
    request = passed("GET", "/v1/models?key=", "x-api-key:", "x-goog-api-key:", "Authorization: Bearer V")
    assert not {b"x-api-key", b"x-goog-api-key"} & request.headers.keys()


OFFERED = Rewritten([(b"sec-websocket-protocol", b"realtime, openai-insecure-api-key.sk-V, x")], b"/")


@pytest.mark.parametrize(
    ("selected", "told"),
    [
        ([], None),
        ([b"realtime"], "realtime"),
        ([b" x\t"], "x"),
        ([b"openai-insecure-api-key.sk-V"], None),
        ([b"OpenAI-Insecure-API-Key.sk-V"], None),
    ],
)
def test_the_client_is_told_what_was_selected_but_never_the_item_with_the_key(selected, told) -> None:
    assert selected_protocol(OFFERED, selected) == told


@pytest.mark.parametrize("selected", [[b"other"], [b"realtime, x"], [b"realtime", b"x"], [b""], [b"REALTIME"]])
def test_a_subprotocol_that_was_not_offered_is_a_fault_of_the_upstream(selected) -> None:
    with pytest.raises(ValueError, match="not offered"):
        selected_protocol(OFFERED, selected)


def test_subprotocols_without_an_upgrade_are_left_out() -> None:
    """Some versions read the key from the header on any request; a plain one has no business with it."""
    request = passed("GET", "/v1/models", "Sec-WebSocket-Protocol: realtime", "Authorization: Bearer V")
    assert b"sec-websocket-protocol" not in request.headers


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("/v1/chat/completions", b"Bearer sk-V-12"),
        ("/api/usage/token/", b"Bearer sk-V"),
        ("/api/log/token", b"Bearer sk-V"),
    ],
)
def test_channel_suffix_goes_where_the_upstream_cuts_it_off(target, sent) -> None:
    """Pinning is kept where allowed, except where the second parse (section 2.1) would take it for the key."""
    assert passed("GET", target, "Authorization: Bearer sk-V-12", pins=True).first(b"authorization") == sent


def test_parameters_other_than_the_key_stay_byte_for_byte() -> None:
    """Only the parts that some parser takes for a key parameter leave the query."""
    query = "a=%zz&b=1;c=2&&KEY=x&key%5b%5d=y&monkey=z&k+ey=w&+key=v"
    assert passed("GET", f"/v1/x?{query}&key=V&%6Bey=", "x-api-key:", "Authorization:").query == query.encode()


# -- routes without a model key (sections 6.2, 6.3)


@pytest.mark.parametrize("login", [f"Bearer {JWT}", PAT, f"bearer {PAT}", "Basic YTpi", "0123456789abcdef" * 2])
def test_dashboard_logins_pass_unchanged(login) -> None:
    """A login is no key and goes through as it came, alone; a query's ``key`` is no carrier there."""
    request = passed("GET", "/api/user/self?key=abc", f"Authorization: {login}", "x-api-key: x", "cookie: session=1")
    assert request.headers[b"authorization"] == [login.encode()]
    assert request.headers[b"cookie"] == [b"session=1"]
    assert request.query == b"key=abc"


@pytest.mark.parametrize("value", [f"Bearer sk-{V}", V, f"sk-{V[:9]}", f"Bearer {V}"])
@pytest.mark.parametrize("target", ["/api/user/self", "/assets/index.js", "/pg/chat/completions", "/api/status"])
def test_clear_model_keys_are_enforced_on_routes_without_one(value, target) -> None:
    """What is clearly a model key is judged wherever it turns up."""
    assert outcome("GET", target, f"Authorization: {value}") in (V, V[:9])


@pytest.mark.parametrize("target", ["/assets/index.js", "/", "/favicon.ico", "/mj/image/1"])
def test_public_pages_get_no_credential(target) -> None:
    """Nothing that looks like a login or a key is sent where nobody asks for one."""
    request = passed("GET", target, f"Authorization: {PAT}", "x-api-key: x", "api-key: y")
    assert not {b"authorization", b"x-api-key", b"api-key"} & request.headers.keys()


def test_preflights_get_no_credential() -> None:
    """A CORS preflight passes without any carrier, a key in its query included."""
    request = passed("OPTIONS", f"/v1/messages?key={V}", f"Authorization: {V}", "x-api-key: junk-1")
    assert request.query == b""
    assert b"authorization" not in request.headers


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"Bearer {JWT}", ""),
        (f"Bearer sk-{V}", V),
        ("Bearer short7", "short7"),
        ("Bearer eyJhbGciOi-JIUzI1NiJ9.eyJpc3Mi.c2lnbmF0", 401),  # the upstream would look up what is before the hyphen
        ("Bearer eyJhbGciOiJ9.eyJpc3Mi", 401),
        (f"Bearer sk-{JWT}", 401),
    ],
)
def test_video_content_takes_a_key_or_a_login(value, expected) -> None:
    """A key is enforced, a dashboard's JWT passes, and what could be either is refused."""
    assert outcome("GET", "/v1/videos/v1/content", f"Authorization: {value}") == expected
    if expected == "":
        request = passed("GET", "/v1/videos/v1/content", f"Authorization: {value}")
        assert request.headers[b"authorization"] == [value.encode()]


def test_video_content_login_does_not_cover_a_key_beside_it() -> None:
    """A JWT in ``Authorization`` and a key in another carrier is refused: some version would use the key."""
    assert outcome("GET", "/v1/videos/v1/content", f"Authorization: Bearer {JWT}", f"mj-api-secret: {V}") == 401
    assert outcome("GET", f"/v1/videos/v1/content?key={V}", f"Authorization: Bearer {JWT}") == 401


# -- one key, one identity (sections 3.4, 3.6)


@pytest.mark.parametrize("secret", [b"s", SECRET, b"x" * 64, b"x" * 65, b"y" * 200])
@pytest.mark.parametrize("text", [b"K", V.encode(), b"a" * 128])
def test_identity_is_the_hmac_of_the_folded_key(secret, text) -> None:
    """HMAC-SHA256 by RFC 2104, whatever the length of the secret, over the key in lower case."""
    credentials = Credentials(secret, UpstreamProfile.NEW_API)
    expected = hmac.new(secret, text.lower(), hashlib.sha256).digest()
    for spelling in (text, text.lower(), text.upper(), text.swapcase()):
        assert credentials.identify(ModelKey(spelling)).fingerprint == expected
    assert credentials.identify(ModelKey(text, b"-7")).fingerprint == expected


def test_spellings_of_one_key_are_no_conflict() -> None:
    """Two carriers that differ in letter case name one key; what is sent is the first one's spelling."""
    request = passed("POST", "/v1/messages", f"Authorization: Bearer {V}", f"x-api-key: sk-{V.swapcase()}")
    assert request.first(b"authorization") == f"Bearer sk-{V}".encode()


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 8, 15, 16, 17, 48, 128])
def test_hint_shows_at_most_half_and_eight(length) -> None:
    """The first and last characters, never more than four each, never more than half of the key."""
    text = bytes(0x30 + i % 10 for i in range(length))
    hint = new_api_credentials().identify(ModelKey(text)).hint
    start, _, end = hint.partition("…")
    assert len(start) == len(end) <= 4
    assert len(start) + len(end) <= length / 2
    assert text.startswith(start.encode())
    assert text.endswith(end.encode())


def test_no_representation_shows_a_key() -> None:
    """What a log line or a traceback with local variables prints of the shapes on the way holds no key."""
    lines = lines_of(f"Authorization: Bearer sk-{V}", f"x-api-key: {V}", *UPGRADE, f"Sec-WebSocket-Protocol: sk-{V}")
    head = read_request_head(lines)
    credentials = new_api_credentials()
    route = credentials.classify("GET", b"/v1/models")
    key = credentials.read(route, "GET", b"/v1/models", f"key={V}".encode(), head)
    assert key is not None
    shapes = (head, key, credentials.rewrite(route, "GET", b"/v1/models", b"", head, key), credentials.identify(key))
    assert not [type(shape) for shape in (*shapes, credentials) if V in f"{shape!r} {shape}"]


@pytest.mark.parametrize("characters", ["-", ",", ";", " ", "é", "%", "&", "=", "\n", "_-"])
def test_extra_characters_cannot_break_the_grammar(characters) -> None:
    """A character that some parser gives a meaning is no key character."""
    with pytest.raises(ValueError, match="extra key characters"):
        Credentials(SECRET, UpstreamProfile.NEW_API, characters)


def test_extra_characters_widen_the_grammar() -> None:
    """Imported keys may have further characters, also ones that mean something in regular expressions."""
    credentials = Credentials(SECRET, UpstreamProfile.NEW_API, "_.]^")
    for text in (b"a_b.c", b"a]b^c"):
        walked = walk(credentials, "POST", b"/v1/x", b"", [(b"authorization", b"Bearer sk-" + text)])
        assert walked.key == ModelKey(text)
        assert_only_this_key(walked)


@pytest.mark.parametrize("profile", [UpstreamProfile.ONE_API, UpstreamProfile.OPENAI])
def test_simpler_upstreams_read_authorization_alone(profile) -> None:
    """Carriers that the profile's upstream does not know neither name a key nor stand in the way of one."""
    credentials = Credentials(SECRET, profile)
    lines = lines_of("x-api-key: A", "mj-api-secret: B", "x-goog-api-key: C")
    assert walk(credentials, "POST", b"/v1/messages", b"key=D", lines).key is None
    walked = walk(credentials, "POST", b"/v1/messages", b"key=D", [*lines, (b"authorization", b"Bearer E")])
    assert walked.key == ModelKey(b"E")
    assert_only_this_key(walked, profile)


@pytest.mark.parametrize("key", ["sk-proj-" + "aB3_-" * 31, "sk-svcacct-a-1", "gsk_abc", "sk-" + "a" * 48])
def test_keys_of_other_providers_pass_whole(key) -> None:
    """Behind the profile ``openai`` nobody cuts keys at hyphens: each text is a key of its own and stays as it is."""
    credentials = Credentials(SECRET, UpstreamProfile.OPENAI)
    walked = walk(credentials, "POST", b"/v1/responses", b"", [(b"authorization", b"Bearer " + key.encode())])
    assert walked.key == ModelKey(key.encode())
    assert_only_this_key(walked, UpstreamProfile.OPENAI)
    assert "sk-" not in credentials.identify(walked.key).hint
    other = ModelKey(key.encode() + b"-1")
    assert credentials.identify(other).fingerprint != credentials.identify(walked.key).fingerprint


def test_refusals_name_no_key() -> None:
    """The detail of a refusal goes to clients and logs, and says nothing of the values."""
    head = RequestHead([], authorization=[V.encode()], x_api_key=[D.encode()])
    route = Route(bound=True, dialect=Dialect.OPENAI)
    with pytest.raises(RequestRefused) as refused:
        new_api_credentials().read(route, "GET", b"/", b"", head)
    assert refused.value.reason is Reason.CONFLICTING_CREDENTIALS
    assert V not in refused.value.detail


@pytest.mark.parametrize("profile", UpstreamProfile)
@pytest.mark.parametrize("value", ["Bearer", "bearer", "BEARER", "Bearer Bearer", "Bearer bearer"])
def test_a_scheme_without_a_key_is_no_key(profile, value) -> None:
    """Alone in its header it would look like one of six letters, and be bound for all who forget theirs."""
    with pytest.raises(RequestRefused) as refused:
        walk(Credentials(SECRET, profile), "POST", b"/v1/chat/completions", b"", lines_of(f"authorization: {value}"))
    assert (refused.value.status, refused.value.reason) == (401, Reason.INVALID_API_KEY)
