"""README.md and README.zh-CN.md say the same: section by section, command by command, name by name."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.settings_docs import README, README_ZH, ROOT


class Section(NamedTuple):
    """What stands below one heading, up to the next."""

    level: int
    title: str
    text: str


def sections(text: str) -> list[Section]:
    """Headings inside code are comments of a shell."""
    found: list[Section] = []
    for part in re.split(r"(?m)^(```.*?^```)$", text, flags=re.DOTALL):
        if part.startswith("```"):
            found[-1] = found[-1]._replace(text=found[-1].text + part)
            continue
        for line in part.splitlines(keepends=True):
            if heading := re.match(r"(#+) (.*)", line):
                found.append(Section(len(heading[1]), heading[2], ""))
            else:
                found[-1] = found[-1]._replace(text=found[-1].text + line)
    return found


ENGLISH, CHINESE = (sections(path.read_text(encoding="utf-8")) for path in (README, README_ZH))
PAIRS = list(zip(ENGLISH, CHINESE, strict=False))


def commands(text: str) -> list[str]:
    """Of the blocks that are run as they stand: every line but comments, which are translated."""
    lines = "".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).splitlines()
    return [line for line in lines if not line.startswith("# ")]


def names(text: str) -> set[str]:
    """Settings, codes of refusals, paths of files and the like: what is the same word in both languages."""
    quoted = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return {word for words in quoted for word in re.findall(r"[A-Za-z]\w*_\w+|/[a-z][\w/.-]+", words)}


def links(text: str) -> set[str]:
    return {target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if not target.startswith("README")}


def test_both_have_the_same_sections() -> None:
    assert [section.level for section in CHINESE] == [section.level for section in ENGLISH]


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=[english.title for english, _ in PAIRS])
def test_a_section_says_the_same_in_both(english: Section, chinese: Section) -> None:
    assert commands(chinese.text) == commands(english.text)
    assert links(english.text) <= links(chinese.text)
    assert names(english.text) <= names(chinese.text)


@pytest.mark.parametrize("path", [README, README_ZH], ids=lambda path: path.name)
def test_links_lead_to_sections_and_files_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    anchors = {"README.md": ENGLISH, "README.zh-CN.md": CHINESE}
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)]+)\)", text)):
        if not target.startswith("https://"):
            assert (ROOT / target).exists(), target
            assert not anchor or anchor in map(anchor_of, anchors[target or path.name]), anchor


def anchor_of(section: Section) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w -]", "", section.title).lower().replace(" ", "-")
