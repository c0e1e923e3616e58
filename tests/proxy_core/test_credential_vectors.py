"""How a key is read: the vectors and tables of ``new-api-auth``, each with what Sentinel makes of it.

Every request goes the way that `handler` sends it, and what comes out is parsed as raw HTTP by the re-stated upstream;
`test_no_bypass` does the same with requests that nobody thought of.
"""

from typing import NamedTuple

import pytest

from tests.support import new_api
from tests.support.new_api import NEW_API_VERSIONS, Version
from tests.support.walk import D, V, lines_of, outcome


def raw_of(method: str, target: str, *headers: str | tuple[bytes, bytes]) -> bytes:
    return b"\r\n".join(
        (f"{method} {target} HTTP/1.1".encode(), *(n + b": " + v for n, v in lines_of(*headers)), b"\r\n")
    )


def looked_up(method: str, target: str, *headers: str | tuple[bytes, bytes]) -> dict[Version, str]:
    """What each version of New API would look up if it got the request without Sentinel."""
    request = new_api.parse(raw_of(method, target, *headers))
    return {
        version: new_api.token_auth(request, version).decode(errors="surrogateescape") for version in NEW_API_VERSIONS
    }


# -- appendix A and the tables


class Vector(NamedTuple):
    """``old`` and ``new`` are what [H] and [N] look up without Sentinel, ``ours`` what Sentinel makes of it."""

    headers: tuple[str | tuple[bytes, bytes], ...]
    old: str
    new: str
    ours: str | int
    target: str = "/v1/chat/completions"


def auth(value: str) -> tuple[str]:
    return (f"Authorization: {value}",)


APPENDIX_A = [
    *(Vector(auth(v), "KEY", "KEY", "KEY") for v in ("Bearer sk-KEY", "bearer sk-KEY", "sk-KEY", "KEY", "Bearer KEY")),
    Vector(auth("BEARER sk-KEY"), "BEARER sk", "BEARER sk", "KEY"),
    Vector(auth("   Bearer     sk-KEY \t "), "KEY", "KEY", "KEY"),
    Vector(auth("Bearer\tsk-KEY"), "Bearer\tsk", "Bearer\tsk", "KEY"),
    Vector(auth("\xa0sk-KEY"), "\xa0sk", "\xa0sk", 401),
    Vector(((b"authorization", b"Bearer \xa0sk-KEY"),), "\udca0sk", "\udca0sk", 401),
    Vector(((b"authorization", b"Bearer \x85sk-KEY"),), "\udc85sk", "\udc85sk", 401),
    Vector((*auth("Bearer sk-AAA"), *auth("Bearer sk-BBB")), "AAA", "AAA", 400),
    Vector((*auth(""), "mj-api-secret: sk-MJ"), "MJ", "MJ", "MJ"),
    Vector(("mj-api-secret: Bearer sk-MJ",), "MJ", "MJ", "MJ"),
    Vector((*auth("Bearer midjourney-proxy"), "Mj-Api-Secret: sk-MJ"), "MJ", "MJ", "MJ"),
    Vector((*auth("Bearer "), "mj-api-secret: sk-MJ"), "Bearer", "Bearer", 401),
    Vector(auth("Bearer sk-KEY-12"), "KEY", "KEY", 401),
    Vector(auth("KEY-12-zz"), "KEY", "KEY", 401),
    Vector(auth("Bearer sk-sk-KEY"), "sk", "sk", 401),
    Vector(auth("Bearer SK-KEY"), "SK", "SK", 401),
    Vector(auth("Bearer Bearer sk-KEY"), "Bearer sk", "Bearer sk", 401),
    Vector(auth("Bearer sk%2DKEY"), "sk%2DKEY", "sk%2DKEY", 401),
    Vector(auth("Bearer sk-A, Bearer sk-B"), "A, Bearer sk", "A, Bearer sk", 401),
    Vector(("Sec-WebSocket-Protocol: sk-KEY",), "KEY", "", "KEY"),
    Vector(
        (
            *auth("Bearer sk-WS"),
            "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.sk-WS, openai-beta.realtime-v1",
        ),
        "WS",
        "WS",
        "WS",
    ),
    Vector(
        (*auth("Bearer sk-AAA"), "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.sk-WS"), "WS", "WS", 400
    ),
    Vector((*auth("Bearer sk-AAA"), "Sec-WebSocket-Protocol: realtime"), "realtime", "AAA", "AAA"),
    Vector(("x-api-key: sk-X", *auth("Bearer sk-A")), "A", "A", 400),
    Vector(("x-api-key: sk-X", *auth("Bearer sk-A")), "X", "X", 400, "/v1/messages"),
    Vector(("x-api-key: X1", "x-api-key: X2"), "X1", "X1", 400, "/v1/messages"),
    Vector(("x-api-key:", "x-api-key: X2", *auth("Bearer sk-A")), "A", "A", 400, "/v1/messages"),
    Vector(("x-api-key: sk-X",), "X", "X", "X", "/v1beta/models/v1/messages:generateContent"),
    *(
        Vector((), "Q", "Q", "Q", "/v1beta/models/g:gc?" + query)
        for query in ("key=sk-Q", "%6b%65%79=sk%2DQ", "key=+sk-Q+", "a&&key=sk-Q")
    ),
    Vector((), "Q", "Q", 401, "/v1beta/models/g:gc?key=%C2%A0%20sk-Q%0A"),
    Vector((), "Q1", "Q1", 400, "/v1beta/models/g:gc?key=sk-Q1&key=sk-Q2"),
    Vector(auth("Bearer sk-A"), "A", "A", 400, "/v1beta/models/g:gc?key=&key=sk-Q2"),
    Vector(auth("Bearer sk-A"), "A", "Q", 400, "/v1/models?key=sk-Q"),
    Vector(("x-goog-api-key: sk-Q", *auth("Bearer sk-A")), "A", "Q", 400, "/v1/models"),
]

DECOYS_2_3 = [
    Vector((*auth(f"Bearer sk-{D}"), f"Sec-WebSocket-Protocol: sk-{V}"), V, D, 400),
    Vector((*auth(f"Bearer sk-{D}"), f"Sec-WebSocket-Protocol: x, openai-insecure-api-key.sk-{V}"), V, V, 400),
    Vector((f"mj-api-secret: {V}",), V, V, V),
    Vector((*auth("Bearer midjourney-proxy"), f"mj-api-secret: {V}"), V, V, V),
    Vector((*auth(""), *auth(f"Bearer sk-{D}"), f"mj-api-secret: {V}"), V, V, 400),
    Vector((*auth(f"Bearer sk-{V}"), *auth(f"Bearer sk-{D}")), V, V, 400),
    Vector((*auth(f"Bearer sk-{D}"), f"x-api-key: {V}"), V, V, 400, "/v1/messages"),
    Vector(auth(f"Bearer sk-{D}"), V, V, 400, f"/v1beta/models/m:generateContent?key={V}"),
    Vector((f"x-goog-api-key: {V}",), V, V, 400, f"/v1beta/models/m:generateContent?key={D}"),
    Vector((), V, V, 400, f"/v1beta/models/m:generateContent?key={V}&key={D}"),
    Vector(auth(f"Bearer sk-{V}"), V, V, 400, f"/v1beta/models/m:generateContent?key=&key={D}"),
    Vector((), V, V, 401, f"/v1beta/models/m:generateContent?key=%zz&key={V}"),
    Vector((), V, V, 400, f"/v1beta/models/m:generateContent?a=1;key={D}&key={V}"),
    Vector(auth(f"sk-{V}"), V, V, V),
    Vector(auth(V), V, V, V),
    Vector(auth(f"bearer {V}"), V, V, V),
]

EQUIVALENT_3_3 = [
    *(Vector(auth(v), "K", "K", "K") for v in ("Bearer    sk-K", "Bearer \tsk-K", "Bearer sk-K \t")),
    *(
        Vector(auth(f"Bearer {space}sk-K"), "K", "K", 401)
        for space in map(chr, (0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000))
    ),
    Vector(auth("Bearer sk-K\u3000"), "K", "K", 401),
    Vector((), "K", "K", 401, "/v1beta/models/m:gc?key=%E3%80%80sk-K%0A"),
    Vector(("x-api-key: sk-K\u3000",), "K", "K", 401, "/v1/messages"),
    Vector((), "K", "K", "K", "/v1beta/models/m:gc?key=+sk%2DK"),
    *(Vector(auth(v), "K", "K", 401) for v in ("sk-K-1", "sk-K-2", "K-99-anything")),
    # Not equivalent: the upstream would not find K, and Sentinel neither takes it for K nor forwards it.
    *(
        Vector(auth(v), text, text, 401)
        for v, text in (("SK-K", "SK"), ("sk-sk-K", "sk"), ("sk- K", " K"), ("sk%2DK", "sk%2DK"), ("K, K", "K, K"))
    ),
]

ODD_3_5 = [
    Vector((), "", "", ""),
    Vector((*auth("Bearer "), "mj-api-secret: V"), "Bearer", "Bearer", 401),
    Vector((*auth("Bearer \xa0"), "mj-api-secret: V"), "V", "V", 401),
    Vector(("mj-api-secret: V",), "V", "V", "V", "/v1beta/models/m:gc?key=%20"),
    Vector((*auth(""), *auth("Bearer sk-D"), "mj-api-secret: V"), "V", "V", 400),
    Vector(("x-api-key:", "x-api-key: V"), "", "", "V", "/v1/messages"),
    Vector(("x-api-key: Bearer sk-K",), "Bearer sk", "Bearer sk", "K", "/v1/messages"),
    Vector(auth("Basic dXNlcjpwYXNz"), "Basic dXNlcjpwYXNz", "Basic dXNlcjpwYXNz", 401),
    Vector((), "", "", "", "/v1beta/models/m:gc?KEY=V&key[]=V"),
    Vector((), "V#x", "V#x", 401, "/v1beta/models/m:gc?key=V#x"),
]

BEYOND_CASE_3_4 = [
    Vector(auth(f"Bearer sk-{text}"), text, text, 401)
    for text in (
        *(
            "\uff21\uff22\uff23",
            "\u24b6bc",
            "\U0001d400bc",
            "\u212aey",
            "\u017fk",
            "abc\xb2",
            "\xe0bc",
            "a\u0301bc",
            "\u0663bc",
        ),
        *("K\u200b", "K\u200d", "\ufeffK", "K\u00ad", "\xdfK", "\ufb01K", "\xe6K", "K\u0430"),
    )
] + [
    Vector((), f"K{byte}", f"K{byte}", 401, f"/v1beta/models/m:gc?key=sk-K%{ord(byte):02x}")
    for byte in "\0\x01\x1f\x7f"
]


VECTORS = pytest.mark.parametrize(
    "vector",
    APPENDIX_A + DECOYS_2_3 + EQUIVALENT_3_3 + BEYOND_CASE_3_4 + ODD_3_5,
    ids=lambda vector: ascii((vector.target, *vector.headers))[:120],
)


@VECTORS
def test_upstream_as_specified(vector: Vector) -> None:
    """The re-stated upstream looks up what the specification says of each vector."""
    found = looked_up("POST", vector.target, *vector.headers)
    assert (found[Version.MAIN], found[Version.NEW]) == (vector.old, vector.new)


@VECTORS
def test_vector(vector: Vector) -> None:
    """Sentinel refuses the vector, or lets exactly the key through that it enforced."""
    assert outcome("POST", vector.target, *vector.headers) == vector.ours
