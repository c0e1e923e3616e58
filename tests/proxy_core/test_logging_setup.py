"""What a process logs: one form on stderr, and nothing in it that looks like a key or a query string."""

import json
import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_core.logging_setup import clean_text, logging_config, redact

KEY = "sk-aB3dE5gH7jK9mN1pQ3sT5uV7wX9yZ1aB3dE5gH7jK9mN1pQ"
SCRIPT = f"""
import logging, structlog, sys
from proxy_core.logging_setup import setup_logging
setup_logging("info", json=True)
log = structlog.get_logger("proxy_core.thing")
log.debug("not shown")
log.info("own", key="{KEY}", url="https://h/p?a=b", number=1, nested={{"x": ["{KEY}"]}})
logging.getLogger("library").warning("foreign %s", "Bearer {KEY[3:]}")
logging.getLogger("httpx").info("POST https://hooks/token")
logging.getLogger("granian.access").info("GET /v1?key=1")
try:
    raise ValueError("failed for {KEY}")
except ValueError:
    log.exception("own traceback")
    logging.getLogger("library").exception("foreign traceback")
"""


@pytest.fixture(scope="module")
def output():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout == "", "data is for stdout, logs are not"
    return done.stderr


def test_own_and_foreign_lines_have_one_form(output):
    lines = [json.loads(line) for line in output.splitlines()]
    assert [(line["level"], line["logger"], line["event"].split()[0]) for line in lines] == [
        ("info", "proxy_core.thing", "own"),
        ("warning", "library", "foreign"),
        ("error", "proxy_core.thing", "own"),
        ("error", "library", "foreign"),
    ]
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert lines[0]["number"] == 1


def test_no_key_and_no_query_leaves_the_process(output):
    assert KEY[3:] not in output
    assert "a=b" not in output
    tracebacks = [json.loads(line).get("exception", "") for line in output.splitlines()]
    assert sum("ValueError: failed for sk-…" in traceback for traceback in tracebacks) == 2


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (f"key {KEY}!", "key sk-…"),
        ("SK-ABCDEFGH", "sk-…"),
        ("Authorization: Bearer abcdefghijklmnop1234", "Authorization: Bearer …"),
        ("x-api-key: abcdefghijklmnop1234", "x-api-key: …"),
        ("api_key=abcdefghijklmnop1234", "api_key= …"),
        ("https://h/p?key=abc&x=1 failed", "https://h/p?… failed"),
        ("GET /v1/models?key=abc HTTP/1.1", "GET /v1/models?… HTTP/1.1"),
        ("is it down? yes", "is it down? yes"),
        ("task-force disk-usage", "task-force disk-usage"),
    ],
)
def test_cleaning(text, cleaned):
    assert clean_text(text) == cleaned


VALUES = st.recursive(
    st.sampled_from([KEY, KEY.encode(), f"https://h/?k={KEY}", 1, None, ValueError(KEY)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just(KEY), inner) | st.tuples(inner),
    max_leaves=20,
)


@given(VALUES)
def test_a_key_is_found_however_deep_it_lies(value):
    assert KEY not in str(redact(None, "info", {"event": "x", "value": value}))


def test_libraries_that_log_whole_urls_are_quiet():
    loggers = logging_config("debug", json=True)["loggers"]
    assert {loggers[name]["level"] for name in ("httpx", "httpcore")} == {logging.getLevelName(logging.WARNING)}
