"""README.md, .env.example and the locks say what the code says."""

import re

import click

from sentinel.cli import group
from tests.support import settings_docs


def test_settings_in_the_readme_are_those_of_the_code() -> None:
    """If not: ``make docs``."""
    text = settings_docs.README.read_text(encoding="utf-8")
    assert settings_docs.readme_with(text) == text


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


def test_the_chinese_readme_leads_to_sections_and_files_that_exist() -> None:
    text = settings_docs.README.with_name("README.zh-CN.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", settings_docs.README.read_text(encoding="utf-8"), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for path, _, anchor in (target.partition("#") for target in re.findall(r"\]\(([^)]+)\)", text)):
        assert (settings_docs.ROOT / path).exists(), path
        assert not anchor or anchor in anchors, anchor


def test_the_units_start_commands_that_exist_and_stop_in_order() -> None:
    """A signal to every process of a gateway at once would end its workers before they took leave."""
    for unit in (settings_docs.ROOT / "systemd").iterdir():
        text = unit.read_text(encoding="utf-8")
        command = re.search(r"^ExecStart=/opt/sentinel/.venv/bin/sentinel (\w+)", text, re.MULTILINE)
        assert command, unit.name
        assert command.group(1) in group.commands, unit.name
        assert "\nKillMode=mixed\n" in text, unit.name
