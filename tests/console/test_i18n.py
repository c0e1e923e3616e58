"""The console's words: complete in both languages, none missing, none left over."""

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

import admin_api.errors
from admin_api.errors import AdminError
from admin_api.schemas.bindings import BindingMode, BindingStatus
from admin_api.schemas.common import Outcome
from console import i18n
from console.i18n import Texts, negotiate
from console.messages import CATALOGUE

CONSOLE = Path(i18n.__file__).parent
SOURCES = [path for path in sorted(CONSOLE.rglob("*.py")) if "messages" not in path.parts]
CHINESE = re.compile(r"[\u4e00-\u9fff]")
SAME_IN_BOTH = {"app.name", "zone.utc", "setting.alert_webhook_url", "about.hop.sentinel", "timeline.audit"}


def patterns(node: ast.AST) -> Iterator[str]:
    """What a text in the code can be: itself, or with anything where an f-string puts something in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield re.escape(node.value)
    elif isinstance(node, ast.JoinedStr):
        parts = [re.escape(part.value) if isinstance(part, ast.Constant) else "[^.]+" for part in node.values]
        yield "".join(parts)


def is_translation(node: ast.AST) -> bool:
    """``t(…)``, ``view.t(…)``, ``t.n(…)``, ``self._t.n(…)``."""
    if not isinstance(node, ast.Call) or not node.args:
        return False
    called = node.func
    if isinstance(called, ast.Attribute) and called.attr == "n":
        called = called.value
    return (isinstance(called, ast.Name) and called.id == "t") or (
        isinstance(called, ast.Attribute) and called.attr in ("t", "_t")
    )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CONSOLE)))
def test_every_message_that_is_shown_is_in_the_catalogue(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if is_translation(node):
            for pattern in patterns(node.args[0]):
                assert any(re.fullmatch(pattern, key) for key in CATALOGUE), f"{path.name}:{node.lineno} {pattern}"


def test_every_message_of_the_catalogue_is_shown_somewhere():
    used = [
        pattern
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for pattern in patterns(node)
        if "\\." in pattern
    ]
    whole = re.compile("|".join(used))
    assert [key for key in CATALOGUE if not whole.fullmatch(key.removesuffix(".one"))] == []


@pytest.mark.parametrize("key", CATALOGUE)
def test_a_message_says_the_same_in_both_languages(key):
    english, chinese = CATALOGUE[key]
    names = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in (english, chinese)]
    assert names[1] <= names[0] | {"n"}
    if not key.endswith(".one"):
        assert names[0] == names[1]
    assert not CHINESE.search(english)
    assert key in SAME_IN_BOTH or CHINESE.search(chinese), "not translated"


def test_every_problem_of_the_admin_api_is_translated():
    codes = {
        each.code for each in vars(admin_api.errors).values() if isinstance(each, type) and issubclass(each, AdminError)
    }
    assert {f"problem.{code}" for code in codes} <= CATALOGUE.keys()


@pytest.mark.parametrize(("prefix", "kind"), [("status", BindingStatus), ("mode", BindingMode), ("outcome", Outcome)])
def test_every_value_of_the_wire_has_a_name(prefix, kind):
    wanted = {f"{prefix}.{each.value}" for each in kind if each is not Outcome.DONE}
    assert wanted <= CATALOGUE.keys()


@pytest.mark.parametrize(
    ("cookie", "accepted", "language"),
    [
        (None, "", "en"),
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh-CN"),
        (None, "zh-TW", "zh-CN"),
        (None, "de-DE,en;q=0.5,zh;q=0.7", "zh-CN"),
        (None, "fr;q=nonsense, en-GB", "en"),
        ("en", "zh-CN", "en"),
        ("tlh", "zh-CN", "zh-CN"),
    ],
)
def test_the_language_is_the_chosen_one_else_the_browsers(cookie, accepted, language):
    assert negotiate(cookie, accepted) == language


def test_counts_have_an_english_singular_and_separators():
    assert Texts("en").n("bulk.ban.done", 1) == "Banned the key."
    assert Texts("en").n("bulk.ban.done", 1234) == "Banned 1,234 keys."
    assert Texts("zh-CN").n("bulk.ban.done", 1) == "已封禁 1 个密钥。"


def test_pairs_and_lists_have_the_punctuation_of_their_language():
    parts = [("requests", "3"), ("refused", "1")]
    told = {name: Texts(name).listed(Texts(name).pair(*each) for each in parts) for name in i18n.LANGUAGES}
    assert told["en"] == "requests: 3, refused: 1"
    assert told["zh-CN"] == "requests\N{FULLWIDTH COLON}3\N{FULLWIDTH COMMA}refused\N{FULLWIDTH COLON}1"
