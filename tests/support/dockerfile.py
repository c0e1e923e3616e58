"""A Dockerfile carried out without Docker: its stages run as scripts, their absolute paths moved below a folder.

Knows what this project's file uses: FROM … AS, WORKDIR, RUN, COPY (with --from and --chown), ENV, USER, HEALTHCHECK,
ENTRYPOINT, CMD, EXPOSE. Anything else is refused, so that a new instruction is not passed over.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MOVED = ("/opt/", "/src", "/var/lib/sentinel")
RUN_LIMIT_S = 600  # only ends a hang: a busy machine takes minutes for what an idle one does in twenty seconds


class Instruction(NamedTuple):
    """One logical line: ``RUN``, and what follows it with its continuations joined."""

    word: str
    rest: str


class Image:
    """What the last stage left: ``root`` holds its files, the rest says how a container of it begins."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
        self.user = "0:0"
        self.workdir = "/"
        self.entrypoint: list[str] = []
        self.command: list[str] = []
        self.healthcheck: list[str] = []

    def run(self, command: list[str], **settings: str) -> "subprocess.Popen[bytes]":
        """A process as in a container: the image's environment, user and folder, and nothing of ours."""
        uid, _, gid = self.user.partition(":")
        account = {"user": int(uid), "group": int(gid), "extra_groups": []} if _others_may_run_python() else {}
        return subprocess.Popen(
            [moved(part, self.root) for part in command],
            env={name: moved(value, self.root) for name, value in (self.environment | settings).items()},
            cwd=moved(self.workdir, self.root),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **account,
        )


def _others_may_run_python() -> bool:
    """We are root, and the interpreter does not lie in a home folder that only we may enter."""
    return os.geteuid() == 0 and all(folder.stat().st_mode & 0o001 for folder in Path(sys.executable).resolve().parents)


def moved(text: str, root: Path) -> str:
    """Where the image's absolute paths lie here."""
    return re.sub(rf"(?<![\w./-])(?=(?:{'|'.join(MOVED)})\b|/opt/)", str(root), text)


def instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield Instruction(word, rest.strip())


def build(dockerfile: Path, context: Path, folder: Path) -> Image:
    """Carries every stage out in ``folder``; ``context`` is what .dockerignore lets through (see `build_context`)."""
    stages: dict[str, Path] = {}
    root = folder / "root"
    image = Image(root)
    name = ""
    for word, rest in instructions(dockerfile.read_text(encoding="utf-8")):
        if word == "FROM":
            if name:
                # Everything in a stage lies at the same place, so that what has its own path in it stays true.
                stages[name] = root.rename(folder / f"stage-{name}")
            root.mkdir()
            image = Image(root)
            name = rest.partition(" AS ")[2] or "last"
        else:
            _carry_out(image, word, rest, context, stages)
    return image


def _carry_out(image: Image, word: str, rest: str, context: Path, stages: dict[str, Path]) -> None:
    match word:
        case "WORKDIR":
            image.workdir = rest
            Path(moved(rest, image.root)).mkdir(parents=True, exist_ok=True)
        case "RUN":
            _run(image, rest)
        case "COPY":
            _copy(image, shlex.split(rest), context, stages)
        case "ENV":
            for name, _, value in (part.partition("=") for part in shlex.split(rest)):
                image.environment[name] = value.replace("$PATH", image.environment["PATH"])
        case "USER":
            image.user = rest
        case "HEALTHCHECK":
            image.healthcheck = json.loads(rest.partition("CMD ")[2])
        case "ENTRYPOINT":
            image.entrypoint = json.loads(rest)
        case "CMD":
            image.command = json.loads(rest)
        case "EXPOSE":
            pass
        case _:
            raise AssertionError(f"this test does not know {word}")


def _run(image: Image, script: str) -> None:
    # `python` is the base image's, here ours; what pip is told about registries on this machine counts here too.
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-ec", moved(script, image.root)],
        cwd=moved(image.workdir, image.root),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_LIMIT_S,
    )
    assert done.returncode == 0, f"RUN {script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def _copy(image: Image, words: list[str], context: Path, stages: dict[str, Path]) -> None:
    options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
    *sources, target = (word for word in words if not word.startswith("--"))
    below = stages[options["from"]] if "from" in options else context
    place = (
        Path(moved(target, image.root)) if target.startswith("/") else Path(moved(image.workdir, image.root), target)
    )
    for source in sources:
        origin = below / source.removeprefix("/")
        if origin.is_dir():
            shutil.copytree(origin, place, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(origin, place)
    if "chown" in options and os.geteuid() == 0:
        uid, _, gid = options["chown"].partition(":")
        for path in (place, *place.rglob("*")):
            os.chown(path, int(uid), int(gid))


def build_context(repository: Path, ignore: Path, folder: Path) -> Path:
    """What Docker would be sent: the ``!`` lines of a .dockerignore that begins with ``*``, less its later lines."""
    rules = [line for line in ignore.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*", "everything is left out unless it is named"
    left_out = [rule for rule in rules[1:] if not rule.startswith("!")]
    for rule in (rule.removeprefix("!") for rule in rules[1:] if rule.startswith("!")):
        source, target = repository / rule, folder / rule
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(*(Path(each).name for each in left_out)))
        elif source.exists():
            shutil.copy2(source, target)
    return folder
