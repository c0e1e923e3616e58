"""Kept requests break no promise, and neither do a few thousand neighbours; `tests.support.fuzzing` says which."""

import random

import pytest

from proxy_core import headers
from tests.support import fuzzing

CORPUS = fuzzing.kept()


@pytest.mark.parametrize("name", CORPUS)
def test_kept_requests(name) -> None:
    """Each is read by every profile without breaking a promise, and says something to at least one parser."""
    assert fuzzing.check(CORPUS[name])


def test_neighbours_of_kept_requests() -> None:
    """The same ones every time; ``make fuzz`` tries others for as long as one likes."""
    done, found = fuzzing.search(random.Random(1), tries=2000)
    assert found is None, found
    assert done == 2000


def test_a_hole_is_found(monkeypatch) -> None:
    """If one carrier went upstream as it came, or a twin of one did, the search would say so."""
    for name in (b"x-api-key", b"x_api_key"):
        with monkeypatch.context() as patch:
            patch.setitem(headers._actions, name, headers.KEEP)
            patch.setattr(fuzzing, "kept", lambda: {"one": b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n"})
            patch.setattr(fuzzing, "PARTS", [b"\r\n%b: sk-K\r\n" % name])
            _, found = fuzzing.search(random.Random(1), tries=2000)
        assert found is not None, name
        assert isinstance(found.fault, AssertionError)
