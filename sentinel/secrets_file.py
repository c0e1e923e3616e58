"""Owns ``secrets.env`` in the data directory: what `up` makes up once, so that nobody has to."""

import os
import secrets
import string
import tempfile
from collections.abc import Callable
from pathlib import Path

from sentinel.errors import SentinelError

FILE = "secrets.env"
DEMO_KEY = "DEMO_KEY"
KEY_CHARACTERS = string.ascii_letters + string.digits


def _demo_key() -> str:
    """In the form in which New API makes its keys."""
    return "sk-" + "".join(secrets.choice(KEY_CHARACTERS) for _ in range(48))


MADE: dict[str, Callable[[], str]] = {
    "SENTINEL_HMAC_SECRET": lambda: secrets.token_hex(32),
    "ADMIN_JWT_SECRET": lambda: secrets.token_hex(32),
    "ADMIN_PASSWORD": lambda: secrets.token_urlsafe(12),
    DEMO_KEY: _demo_key,
}


def kept_secrets(directory: Path) -> dict[str, str]:
    """Reads the file and adds what is missing. It appears complete or not at all: losing the HMAC secret would make
    every key count as new."""
    kept = read_secrets(directory)
    missing = {name: make() for name, make in MADE.items() if name not in kept}
    if missing:
        kept |= missing
        _write(directory / FILE, kept)
    return kept


def read_secrets(directory: Path) -> dict[str, str]:
    """What the file holds already; empty when there is none. Raises SentinelError when it is somebody else's."""
    try:
        lines = (directory / FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SentinelError(f"cannot read {directory / FILE}: {error.strerror}") from error
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def _write(path: Path, values: dict[str, str]) -> None:
    handle, part = tempfile.mkstemp(prefix=".secrets-", dir=path.parent)  # 0600
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write("# made by sentinel up; keep it with the data: without it every key counts as new\n")
        file.writelines(f"{name}={value}\n" for name, value in values.items())
        file.flush()
        os.fsync(file.fileno())
    Path(part).replace(path)
