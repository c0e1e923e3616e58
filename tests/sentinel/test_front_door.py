"""README.md, .env.example and the locks say what the code says."""

import re

import click

from sentinel.cli import group
from tests.support import settings_docs


def test_settings_in_the_readme_are_those_of_the_code() -> None:
    """If not: ``make docs``."""
    text = settings_docs.README.read_text(encoding="utf-8")
    assert settings_docs.readme_with(text, settings_docs.table()) == text


def test_the_chinese_readme_has_every_setting() -> None:
    """If not: a sentence in docs/settings.zh-CN.toml, then ``make docs``."""
    text = settings_docs.README_ZH.read_text(encoding="utf-8")
    assert settings_docs.readme_with(text, settings_docs.table_zh()) == text


def test_example_environment_has_every_setting() -> None:
    """If not: ``make docs``."""
    assert settings_docs.EXAMPLE.read_text(encoding="utf-8") == settings_docs.example()


def test_readme_lists_the_commands_and_their_options() -> None:
    text = settings_docs.README.read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `sentinel (\w+)([^`]*)` \|", text, re.MULTILINE))
    commands = {name: command for name, command in group.commands.items() if not command.hidden}
    assert listed.keys() == commands.keys()
    for name, command in commands.items():
        parts = [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
        options = [
            option for part in parts for each in part.params if isinstance(each, click.Option) for option in each.opts
        ]
        assert set(re.findall(r"--[a-z-]+", listed[name])) == set(options), name


def test_locks_pin_hashes_and_name_no_registry() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (settings_docs.ROOT / name).read_text(encoding="utf-8")
        assert "://" not in text
        for block in re.split(r"\n(?=\S)", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)):
            assert re.match(r"[a-z0-9-]+(\[[a-z,]+\])?==\S+", block), block
            assert "--hash=sha256:" in block, block
