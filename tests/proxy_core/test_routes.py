"""Which routes are bound, in which dialect their clients read errors, and which paths are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_core.contracts import Dialect, Reason, RequestHead, Route, UpstreamProfile
from proxy_core.errors import RequestRefused
from proxy_core.routes import MEMO_PATH_BYTES, MEMO_ROUTES, Routes, error_dialect
from tests.support import new_api
from tests.support.new_api import Version
from tests.support.properties import BOUNDED


def classify(path: str, method: str = "GET", profile: UpstreamProfile = UpstreamProfile.NEW_API) -> Route:
    return Routes(profile).classify(method, path.encode())


# -- the explicit list (section 6.1) and what is not on it

PAGES = ["/", "/favicon.ico", "/logo.png", "/assets/index-abc.js", "/assets/a/b.css", "/static/js/main.js"]
PUBLIC_API = [
    *("status", "setup", "notice", "about", "home_page_content", "user-agreement", "privacy-policy", "uptime/status"),
    *("ratio_config", "user/groups", "pricing", "rankings", "perf-metrics", "perf-metrics/summary", "verification"),
    *("reset_password", "user/reset", "user/register", "user/login", "user/login/2fa", "user/passkey/login/begin"),
    *("oauth/state", "oauth/github", "oauth/wechat", "user/auth/refresh", "user/auth/logout", "stripe/webhook"),
    *("creem/webhook", "waffo/webhook", "waffo-pancake/webhook/prod", "user/epay/notify", "subscription/epay/return"),
]
DASHBOARD = [
    *("user/self", "user/", "token/", "token/5/key", "token/batch/keys", "log/", "log/self", "log/self/stat", "data/"),
    *("subscription/plans", "mj/", "mj/self", "task/", "task/self", "models", "models/1", "verify", "status/test"),
    *("channel/", "channel/test/1", "option/", "redemption/1", "group/", "vendors/", "deployments/", "performance/gc"),
    *("system-task/", "system-info", "custom-oauth-provider/", "ratio_sync/fetch", "prefill_group/", "authz/roles"),
]


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_unbound_and_take_no_login(path) -> None:
    """The web UI's files ask for nothing, so nothing is sent."""
    assert classify(path) == Route(bound=False, dialect=Dialect.OPENAI)


@pytest.mark.parametrize("path", [*(f"/api/{name}" for name in PUBLIC_API + DASHBOARD), "/pg/chat/completions"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_dashboard_is_unbound(method, path) -> None:
    """The listed families of the dashboard pass with their login."""
    assert classify(path, method) == Route(bound=False, dialect=Dialect.OPENAI, session=True)


@pytest.mark.parametrize("path", ["/mj/image/7", "/v1/mj/image/7", "/fast/mj/image/a%20b"])
def test_midjourney_images_are_public(path) -> None:
    """Their id is their only secret; only GET serves them."""
    assert not classify(path).bound
    assert classify(path, "POST").bound


@pytest.mark.parametrize(
    "path",
    [
        *("/console", "/console/token", "/login", "/v1", "/v2/x", "/api", "/api/", "/api/unknown", "/api/statusx"),
        *("/api/usage", "/api/usage/tokens", "/assets", "/assetsx/y", "/favicon.icox", "/pg/chat", "/API/status"),
        *("/pass/x", "/v1/oneapi/proxy/1/v1/chat", "/dashboard/billing/usage", "/api/pricing/x", "/api/setup/x"),
        *("/mj/image", "/mj/image/", "/mj/image/a/b", "/a/b/mj/image/c", "/v1/videos/v1", "/healthz"),
    ],
)
def test_unknown_paths_are_bound(path) -> None:
    """What is not on the list is a key route, also below a listed name's beginning."""
    route = classify(path)
    assert route.bound
    assert not route.session


@pytest.mark.parametrize("path", ["/api/usage/token", "/api/usage/token/", "/api/log/token", "/api/log/%74oken/"])
def test_read_only_routes_take_keys(path) -> None:
    """They sit among the dashboard's paths and read a model key, without suffix."""
    assert classify(path) == Route(bound=True, dialect=Dialect.READ_ONLY, pins_channel=False)


@pytest.mark.parametrize("path", ["/v1/videos/v-1/content", "/v1/videos/v-1/content/"])
def test_video_content_takes_keys_and_logins(path) -> None:
    """The one key route where a dashboard's login may stand in the key's place."""
    assert classify(path) == Route(bound=True, dialect=Dialect.TASK, session=True)
    assert not classify(path, "POST").session
    assert not classify(path, profile=UpstreamProfile.ONE_API).session


@pytest.mark.parametrize("path", ["/", "/api/status", "/api/user/self", "/assets/x", "/mj/image/1", "/api/token/"])
def test_plain_openai_upstream_has_no_dashboard(path) -> None:
    """Every path of a plain OpenAI upstream is a key route."""
    assert classify(path, profile=UpstreamProfile.OPENAI).bound


@pytest.mark.parametrize("path", ["/api/mj", "/api/verify", "/api/subscription/plans", "/pg/chat/completions"])
def test_one_api_has_its_own_list(path) -> None:
    """New API's later families are unknown paths to one-api."""
    assert classify(path, profile=UpstreamProfile.ONE_API).bound
    assert not classify("/api/user/self", profile=UpstreamProfile.ONE_API).bound


def test_preflights_are_anonymous() -> None:
    """``OPTIONS`` is answered by the upstream's CORS layer and never sees a credential; only in capitals."""
    for path in ("/v1/messages", "/api/user/self", "/mj/submit/imagine", "*"):
        assert classify(path, "OPTIONS").anonymous
    assert classify("/v1/messages", "options").bound


# -- the wildcard in front of Midjourney's routes (section 4.2)


@pytest.mark.parametrize(
    "first", ["api", "assets", "static", "favicon.ico", "login", "oauth", "pg", "v1", "x", "%61pi", "api%20", "mj"]
)
@pytest.mark.parametrize("rest", ["submit/imagine", "task/1/fetch", "insight-face/swap", "notify", "submit", "self/x"])
@pytest.mark.parametrize("profile", [UpstreamProfile.NEW_API, UpstreamProfile.ONE_API])
def test_any_first_segment_leads_to_midjourney(profile, first, rest) -> None:
    """No listed prefix covers ``/:mode/mj/…``."""
    route = classify(f"/{first}/mj/{rest}", "POST", profile)
    assert route.bound
    assert route.dialect is Dialect.MIDJOURNEY


segments = st.one_of(
    st.sampled_from(
        ["mj", "api", "assets", "static", "submit", "task", "notify", "insight-face", "image", "self", "pg"]
    ),
    st.sampled_from(["imagine", "1", "fetch", "user", "log", "token", "", "m%6a", "%6Dj", "%73ubmit", "favicon.ico"]),
    st.sampled_from([".", "..", "%2e", "a%2fb", "%5c", "é", "%c3%a9", "%00", "a;b", "x%20y", "%25"]),
)
paths = st.lists(segments, max_size=6).map(lambda parts: "/" + "/".join(parts))
trapped = st.tuples(segments, st.sampled_from(["submit", "task", "notify", "insight-face"]), segments).map(
    lambda parts: f"/{parts[0]}/mj/{parts[1]}/{parts[2]}"
)


@BOUNDED
@given(
    method=st.sampled_from(["GET", "POST", "HEAD"]),
    path=st.one_of(paths, trapped),
    profile=st.sampled_from([(UpstreamProfile.NEW_API, Version.MAIN), (UpstreamProfile.ONE_API, Version.ONE_API)]),
)
def test_what_the_upstream_charges_is_bound(method: str, path: str, profile) -> None:
    """Every path that the re-stated router takes for a key route is bound, public or refused."""
    raw = f"{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    route = route_or_refusal(profile[0], method, path.encode())
    if isinstance(route, RequestRefused):
        assert route.reason is Reason.MALFORMED_REQUEST
        return
    decoded = new_api.parse(raw).path
    if new_api.takes_model_keys(method.encode(), decoded, profile[1]):
        assert route.bound or not route.session, "a login could carry a key there"
    if new_api.is_midjourney_call(decoded):
        assert route.bound


# -- paths that could be read in two ways


@pytest.mark.parametrize(
    "path",
    [
        *("/v1%2fmessages", "/v1%2Fmessages", "/v1%5cmessages", "/v1\\messages", "//v1/messages", "/v1//messages"),
        *("/v1/./messages", "/v1/../messages", "/v1/..", "/v1/.", "/v1/%2e%2e/messages", "/v1/%2E/x", "/./v1", "/.."),
        *("/v1/%00", "/v1/\0", "/v1/%0a", "/v1/%7f", "/v1/a b", "/v1/\x7f", "/v1/%", "/v1/%4", "/v1/%zz", "/v1/x#y"),
        *("/v1/é", "/v1/%c3%a9", "/v1/%ff", "", "*", "v1/messages", "http://x/v1/messages", "/v1?key=x"),
        *(
            "/assets/../v1/messages",
            "/assets/%2e%2e/v1/messages",
            "/assets//x",
            "/assets%2fx",
            "/api/user/../log/token",
        ),
        *("//mj/submit/imagine", "/api/%6dj%2fsubmit", "/api/log/./token", "/api/log//token"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_ambiguous_paths_are_refused(method, path) -> None:
    """Where two hops could see different routes in the same bytes, there is no answer but 400."""
    with pytest.raises(RequestRefused) as refused:
        classify(path, method)
    assert (refused.value.status, refused.value.reason) == (400, Reason.MALFORMED_REQUEST)


@pytest.mark.parametrize("path", ["/v1/...", "/v1/.x", "/v1/x.", "/a..b", "/v1/%252e%252e/x", "/v1/a%20b", "/v1/%3f"])
def test_harmless_oddities_pass(path) -> None:
    """Dots inside names, blanks and doubly encoded text are read the same by everybody."""
    assert classify(path).bound


@pytest.mark.parametrize("method", ["CONNECT", "", "GE T", "GET\r\n", "G\0T", "GÉT", "X" * 33])
def test_strange_methods_are_refused(method) -> None:
    """Only a token is a method, and tunnels are not served."""
    with pytest.raises(RequestRefused):
        classify("/v1/messages", method)


@BOUNDED
@given(method=st.text(max_size=6), path=st.binary(max_size=24), profile=st.sampled_from(UpstreamProfile))
def test_any_bytes_are_classified_or_refused(method: str, path: bytes, profile) -> None:
    """Junk raises the one refusal and nothing else."""
    for raw in (path, b"/" + path):
        route = route_or_refusal(profile, method, raw)
        assert isinstance(route, Route) or route.status == 400


def route_or_refusal(profile: UpstreamProfile, method: str, raw_path: bytes) -> Route | RequestRefused:
    try:
        return Routes(profile).classify(method, raw_path)
    except RequestRefused as refused:
        return refused


# -- dialects (section 8.3)


@pytest.mark.parametrize(
    ("method", "path", "dialect"),
    [
        ("POST", "/v1/chat/completions", Dialect.OPENAI),
        ("GET", "/v1/models", Dialect.OPENAI),
        ("GET", "/v1/models/gpt-4o", Dialect.OPENAI),
        ("GET", "/unknown", Dialect.OPENAI),
        ("GET", "/v1/realtime", Dialect.OPENAI),
        ("POST", "/v1/messages", Dialect.ANTHROPIC),
        ("POST", "/v1/messages/count_tokens", Dialect.ANTHROPIC),
        ("POST", "/v1/messagesx", Dialect.OPENAI),
        ("POST", "/v1beta/models/g:generateContent", Dialect.GEMINI),
        ("GET", "/v1beta/models", Dialect.GEMINI),
        ("POST", "/v1/models/g:generateContent", Dialect.GEMINI),
        ("POST", "/mj/submit/imagine", Dialect.MIDJOURNEY),
        ("GET", "/mj-fast/mj/task/1/fetch", Dialect.MIDJOURNEY),
        ("POST", "/suno/submit/music", Dialect.TASK),
        ("POST", "/kling/v1/videos/text2video", Dialect.TASK),
        ("POST", "/jimeng/", Dialect.TASK),
        ("POST", "/v1/video/generations", Dialect.TASK),
        ("POST", "/v1/videos", Dialect.TASK),
        ("GET", "/v1/videos/1/content", Dialect.TASK),
        ("GET", "/api/usage/token/", Dialect.READ_ONLY),
    ],
)
def test_dialect_of_a_route(method, path, dialect) -> None:
    """Refusals speak the API of the route."""
    assert classify(path, method).dialect is dialect


def test_anthropic_clients_read_anthropic_errors_on_shared_routes() -> None:
    """``anthropic-version`` turns an OpenAI-shaped refusal into Anthropic's, and no other."""
    anthropic = RequestHead([], anthropic=True)
    assert error_dialect(classify("/v1/models"), anthropic) is Dialect.ANTHROPIC
    assert error_dialect(classify("/v1/models"), RequestHead([])) is Dialect.OPENAI
    assert error_dialect(classify("/suno/fetch", "POST"), anthropic) is Dialect.TASK
    assert error_dialect(None, None) is Dialect.OPENAI


@pytest.mark.parametrize(
    ("method", "path", "lists"),
    [
        ("GET", "/v1/models", True),
        ("GET", "/v1/models/x", True),
        ("POST", "/v1/models/x", False),
        ("GET", "/v1beta/models", False),
        ("GET", "/v1/modelsx", False),
    ],
)
def test_model_lists_are_known(method, path, lists) -> None:
    """Where the upstream's handlers look at which carrier is present (section 2.4)."""
    assert classify(path, method).lists_models is lists


# -- the memory of routes


def test_memory_is_bounded() -> None:
    """A flood of paths neither grows the memory nor changes an answer; long paths are not kept."""
    routes = Routes(UpstreamProfile.NEW_API)
    for number in range(MEMO_ROUTES + 100):
        assert routes.classify("GET", b"/v1/%x" % number).bound
        assert len(routes._known) <= MEMO_ROUTES
    before = dict(routes._known)
    assert routes.classify("GET", b"/" + b"x" * MEMO_PATH_BYTES).bound
    assert routes._known == before


def test_remembered_answers_belong_to_one_method() -> None:
    """A path's answer for one method is not taken for another's."""
    routes = Routes(UpstreamProfile.NEW_API)
    assert not routes.classify("GET", b"/mj/image/1").bound
    assert routes.classify("POST", b"/mj/image/1").bound
    assert not routes.classify("GET", b"/mj/image/1").bound
