"""The acceptance property: whatever a client sends, the upstream uses the key that Sentinel enforced, or none.

Carriers, paths and profiles are combined at random from parts that once fooled somebody, and from plain junk.
"""

from urllib.parse import quote_from_bytes

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from proxy_core.contracts import UpstreamProfile
from proxy_core.credentials import Credentials
from proxy_core.errors import RequestRefused
from tests.support.properties import BOUNDED
from tests.support.walk import SECRET, UPGRADE, Passed, assert_only_this_key, walk

V = b"Vv1" * 16
D = b"Dd2" * 16
JWT = b"eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJuZXctYXBpIn0.c2lnbmF0dXJlLXdpdGgtaHlwaGVu"
HYPHENATED_JWT = b"eyJhbGciOi-JIUzI1NiJ9.eyJpc3Mi.c2lnbmF0"
PAT = b"Q2hhbmdlTWVOb3dQbGVhc2UrLz0="
MARKER = b"openai-insecure-api-key"

spaces = st.sampled_from([b"", b" ", b"\t", "\xa0".encode(), "\u3000".encode(), b"\x85", b"\xa0", "\u200b".encode()])
schemes = st.sampled_from([b"Bearer ", b"bearer ", b"BEARER \t", b"Bearer\t", b"Bearer", b"Bearer Bearer ", b"Basic "])
prefixes = st.sampled_from([b"", b"sk-", b"SK-", b"sk-sk-", b"sk%2D", b"sk- "])
texts = st.sampled_from(
    [
        *(V, V, V.swapcase(), D, b"short7", b"7", b"sk", b"Bearer", b"midjourney", b"midjourney-proxy", b"", JWT, PAT),
        *(
            HYPHENATED_JWT,
            "\uff36".encode() + V,
            V + b"\0",
            V[:24] + "\u200d".encode() + V[24:],
            b"x" * 128,
            b"x" * 129,
        ),
    ]
)
suffixes = st.sampled_from(
    [b"", b"", b"", b"-1", b"-12", b"-12345678901", b"-x", b"-1-2", b", " + D, b";" + D, b"%00", b"\0", b"," + V]
)
odd_values = st.tuples(spaces, st.one_of(st.just(b""), schemes), spaces, prefixes, texts, suffixes, spaces).map(
    b"".join
)
same = st.sampled_from([b"Bearer sk-" + V, b"sk-" + V, V, b"bearer " + V, b"Bearer sk-" + V.swapcase(), b""])
junk = st.binary(max_size=12).map(lambda value: value.translate(None, bytes((*range(0x20), 0x7F))))
values = st.one_of(same, same, same, same, odd_values, junk)
"""Mostly one key in its spellings, so that enough requests get as far as the upstream."""

protocol_items = st.one_of(
    st.sampled_from([b"realtime", b"openai-beta.realtime-v1", b"", MARKER, MARKER + b".", b"x" + MARKER + b"." + V]),
    values.map((MARKER + b".").__add__),
    values.map((MARKER + b".sk-").__add__),
    values.map(MARKER.__add__),
    values.map((MARKER.upper() + b".").__add__),
    values.map(("\xa0".encode() + MARKER + b".").__add__),
    values,
)
protocols = st.lists(protocol_items, max_size=4).flatmap(
    lambda items: st.sampled_from([b",", b", ", b" ,\t"]).map(lambda separator: separator.join(items))
)

carriers = st.sampled_from([b"authorization", b"authorization", b"x-api-key", b"x-goog-api-key", b"mj-api-secret"])
aliases = st.sampled_from([b"x_api_key", b"mj_api_secret", b"api-key", b"proxy-authorization", b"cookie", b"api_key"])
connections = st.sampled_from(
    [b"keep-alive", b"close", b"authorization", b"X-Api-Key, upgrade", b"mj-api-secret,sec-websocket-protocol", b""]
)
carried = st.tuples(carriers, values)
headers = st.one_of(
    *(carried, carried, carried, carried),
    st.tuples(aliases, values),
    st.tuples(st.just(b"sec-websocket-protocol"), protocols),
    st.tuples(st.just(b"connection"), connections),
    st.tuples(st.just(b"anthropic-version"), st.just(b"2023-06-01")),
)
trimmed = headers.map(lambda line: (line[0], line[1].strip(b" \t")))

INTERESTING_PATHS = [
    *(b"/v1/chat/completions", b"/v1/messages", b"/v1/models", b"/v1/models/gpt-4o", b"/v1/models/g:generateContent"),
    *(b"/v1beta/models", b"/v1beta/models/g:gc", b"/v1beta/openai/models", b"/v1beta/models/v1/messages:gc"),
    *(b"/v1%2Fmessages", b"/v1/%6dessages", b"//v1/messages", b"/v1/x/../messages", b"/V1/messages", b"/jimeng/"),
    *(b"/mj/submit/imagine", b"/api/mj/submit/imagine", b"/assets/mj/submit/imagine", b"//mj/submit/imagine"),
    *(b"/api/mj/self", b"/api/mj/", b"/mj/image/1", b"/v1/mj/image/1", b"/pg/mj/task/1/fetch", b"/pg/chat/completions"),
    *(b"/api/usage/token/", b"/api/log/token", b"/api/log/token/", b"/api/log/", b"/api/user/self", b"/api/status"),
    *(b"/v1/videos/v1/content", b"/v1/videos/v1/messages/content", b"/v1/realtime", b"/v1/responses", b"/"),
    *(b"/assets/index.js", b"/favicon.ico", b"/console/token", b"/suno/submit/music", b"/kling/v1/videos/text2video"),
    *(b"/v1/oneapi/proxy/1/v1/messages", b"/dashboard/billing/usage", b"/api/token/1/key", b"/static/mj/task/1/fetch"),
]
segments = st.sampled_from(
    [
        *(b"v1", b"v1beta", b"messages", b"models", b"mj", b"submit", b"task", b"image", b"api", b"log", b"token"),
        *(b"usage", b"assets", b"videos", b"content", b"", b".", b"..", b"%2e", b"%2f", b"%6d%6a", b"%00", b"%e4"),
        *(b"\xe4", b"x#y"),
    ]
)
interesting = st.sampled_from(INTERESTING_PATHS)
generated = st.lists(segments, max_size=6).map(lambda parts: b"/" + b"/".join(parts))
paths = st.one_of(interesting, interesting, interesting, generated)

names = st.sampled_from([b"key", b"key", b"%6b%65%79", b"k%65y", b"KEY", b"key[]", b"+key", b"ke%zz", b"key%00", b"a"])
encoded = values.flatmap(
    lambda value: st.sampled_from(
        [
            *(value, quote_from_bytes(value).encode(), b"+" + value, b"%20" + value + b"%0a", b"%zz" + value),
            "".join(f"%{byte:02x}" for byte in value).encode(),
        ]
    )
)
parameters = st.one_of(
    st.tuples(names, st.just(b"="), encoded).map(b"".join), names, st.sampled_from([b"", b"=", b"alt=sse", b"a=%"])
)
queries = st.lists(st.tuples(parameters, st.sampled_from([b"&", b"&", b"&", b";"])).map(b"".join), max_size=4).map(
    b"".join
)

CREDENTIALS = {
    (profile, pins): Credentials(SECRET, profile, allow_channel_suffix=pins)
    for profile in UpstreamProfile
    for pins in (False, True)
}


def seen(path: bytes, *lines: tuple[bytes, bytes], upgrade: bool = False, pins: bool = False):
    """A request that is tried every time."""
    return example(method="GET", path=path, query=b"", lines=list(lines), upgrade=upgrade, pins=pins)


@pytest.mark.parametrize("profile", UpstreamProfile)
@BOUNDED
@given(
    method=st.sampled_from(["GET", "POST", "POST", "GET", "OPTIONS", "HEAD", "DELETE", "get"]),
    path=paths,
    query=st.one_of(st.just(b""), st.just(b"alt=sse"), queries),
    lines=st.lists(trimmed, min_size=1, max_size=4),
    upgrade=st.booleans(),
    pins=st.booleans(),
)
@seen(b"/v1/videos/1/content", (b"authorization", b"midjourney-proxy"))
@seen(b"/v1/videos/1/content", (b"authorization", b""), (b"authorization", JWT))
@seen(b"/v1/realtime", (b"sec-websocket-protocol", b"realtime, 7"), upgrade=True)
@seen(b"/v1/x", (b"authorization", b"sk-K-1"), pins=True)
def test_upstream_uses_the_enforced_key(
    profile: UpstreamProfile, method: str, path: bytes, query: bytes, lines: list[tuple[bytes, bytes]], upgrade, pins
) -> None:
    """Refused with 400 or 401, or what goes upstream holds the enforced key alone for every reader of every version."""
    everything = [(b"host", b"api.example"), *lines, *(UPGRADE if upgrade else ())]
    passed = walked(CREDENTIALS[profile, pins], method, path, query, everything)
    if isinstance(passed, RequestRefused):
        event(f"refused: {passed.detail}")
        assert passed.status in (400, 401)
        return
    event("passed with a key" if passed.key is not None else "passed without a key")
    assert_only_this_key(passed, profile)
    if passed.key is not None:
        others = b"_-" if profile is UpstreamProfile.OPENAI else b""
        assert passed.key.text.translate(None, others).isalnum()
        assert passed.key.text.isascii()


@BOUNDED
@given(path=paths, query=queries, lines=st.lists(trimmed, min_size=1, max_size=4), upgrade=st.booleans())
def test_fast_way_reads_what_the_thorough_way_reads(path: bytes, query: bytes, lines, upgrade) -> None:
    """A further carrier that says nothing changes neither the key nor the refusal."""
    credentials = CREDENTIALS[UpstreamProfile.NEW_API, False]
    everything = [*lines, *(UPGRADE if upgrade else ())]
    fast = walked(credentials, "POST", path, query, everything)
    thorough = walked(credentials, "POST", path, query, [*everything, (b"mj-api-secret", b"midjourney-proxy")])
    if isinstance(fast, RequestRefused):
        assert isinstance(thorough, RequestRefused)
        assert (fast.status, fast.reason) == (thorough.status, thorough.reason)
    else:
        assert not isinstance(thorough, RequestRefused)
        assert (fast.key, fast.raw) == (thorough.key, thorough.raw)


def walked(credentials: Credentials, method: str, path: bytes, query: bytes, lines) -> Passed | RequestRefused:
    try:
        return walk(credentials, method, path, query, lines)
    except RequestRefused as refused:
        return refused
