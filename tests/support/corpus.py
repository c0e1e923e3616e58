"""One list of requests for every way in which a request can be judged: what is allowed, refused or tried by cheats."""

from proxy_core.headers import _SPECIAL, DROP
from tests.proxy_core.test_credential_vectors import APPENDIX_A, BEYOND_CASE_3_4, DECOYS_2_3, EQUIVALENT_3_3, ODD_3_5
from tests.proxy_core.test_no_bypass import INTERESTING_PATHS
from tests.support.verdict_modes import Case, Line
from tests.support.walk import JWT, PAT, D, V, lines_of

KEY: Line = (b"authorization", b"Bearer sk-" + V.encode())
HANDSHAKE: tuple[Line, ...] = (
    (b"connection", b"upgrade"),
    (b"upgrade", b"websocket"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
)
MARK = b"openai-insecure-api-key."

FORWARDED = ("for", "host", "port", "prefix", "protocol", "scheme", "server", "ssl")
NEVER_FORWARDED = [
    name for name, action in _SPECIAL.items() if action == DROP and not name.startswith(b"sec-websocket-")
]


def case(method: str, target: str, *headers: str | Line) -> Case:
    return Case(method, target.encode(), tuple(lines_of(*headers)[1:]))


def _socket(*headers: str | Line) -> Case:
    made = case("GET", "/v1/realtime?model=m", *headers)
    return made._replace(lines=(*made.lines, *HANDSHAKE))


# A raw # in a target is cut off by some servers on the way and not by others.
VECTORS = [
    case("POST", vector.target, *vector.headers)
    for vector in APPENDIX_A + DECOYS_2_3 + EQUIVALENT_3_3 + BEYOND_CASE_3_4 + ODD_3_5
    if "#" not in vector.target
]
PATHS = [
    Case(method, path, lines)
    for path in INTERESTING_PATHS
    for method, lines in (("GET", (KEY,)), ("POST", (KEY,)), ("GET", ()))
]
OTHERS = [
    case("OPTIONS", "/v1/chat/completions", KEY, "Origin: https://chat.example", "Access-Control-Request-Method: POST"),
    case("OPTIONS", f"/v1/models?key={V}", KEY),
    case("HEAD", "/v1/models", KEY),
    case("HEAD", "/v1/models", "Authorization: Bearer sk-not*a*key"),
    case("DELETE", "/v1/models/m", KEY),
    case("PATCH", "/v1/models", KEY),
    case("GET", "/v1/models", f"x-api-key: {V}", "anthropic-version: 2023-06-01"),
    case("GET", "/v1/models", f"x-goog-api-key: {V}"),
    case("GET", f"/v1/models?key={V}&pageSize=5"),
    case("GET", f"/v1/models/m?alt=json&key=sk-{V}&x=%20y", KEY),
    case("POST", f"/v1beta/models/m:generateContent?%6bey={V}", f"x-goog-api-key: {V}"),
    case("POST", "/v1/messages", f"x-api-key: {V}", KEY, "anthropic-version: 2023-06-01"),
    case("POST", "/v1/messages", f"x-api-key: {D}", KEY, "anthropic-version: 2023-06-01"),
    case("POST", "/v1/chat/completions?a=%zz&b", KEY, f"api-key: {D}", f"proxy-authorization: Bearer sk-{D}"),
    case("POST", "/v1/chat/completions", f"authorization: Bearer sk-{V.swapcase()}"),
    # logins of the dashboard, and keys where only those belong
    case("GET", "/api/user/self?key=theme", f"authorization: Bearer {JWT}", "new-api-user: 1"),
    case("GET", "/api/user/self", f"authorization: {PAT}", "cookie: session=x"),
    case("GET", "/api/user/self", KEY),
    case("GET", "/api/user/self", f"authorization: Bearer {JWT}", f"x-api-key: {V}"),
    case("GET", "/v1/videos/1/content", f"authorization: Bearer {JWT}"),
    case("GET", "/v1/videos/1/content", KEY),
    # WebSocket
    _socket(KEY),
    _socket(KEY, "sec-websocket-protocol: realtime"),
    _socket(f"sec-websocket-protocol: realtime, {MARK.decode()}sk-{V}, openai-beta.realtime-v1"),
    _socket(KEY, f"sec-websocket-protocol: realtime, {MARK.decode()}sk-{D}"),
    _socket("sec-websocket-protocol: realtime"),
    # what some proxy on the way may fold, strip or believe
    case("POST", "/v1/chat/completions", KEY, f"x_api_key: {D}", f"mj_api_secret: {D}"),
    case("POST", "/v1/chat/completions", KEY, "x-forwarded-for: 192.0.2.1", "forwarded: for=192.0.2.1"),
    case("POST", "/v1/chat/completions", KEY, "x-forwarded-prefix: /evil", "cf-connecting-ip: 192.0.2.1"),
    case("POST", "/v1/chat/completions", KEY, *(f"{name.decode()}: 192.0.2.1" for name in NEVER_FORWARDED)),
    case("POST", "/v1/chat/completions", KEY, *(f"x-forwarded-{name}: x" for name in FORWARDED)),
    case("POST", "/v1/chat/completions", KEY, "x-sentinel-target: /v1/models", f"x-sentinel-authorization: {D}"),
]
CORPUS = [*VECTORS, *PATHS, *OTHERS]
