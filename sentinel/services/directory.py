"""Owns the data directory: who may use it, where the sockets are, and that only one supervisor has it.

Rule for whoever edits this file: no mode or owner of anything that we did not create is ever changed. (The wheel's own
helper, run as root, opened every parent folder for everybody, a home folder included.)

    DIR/lock          held while in use; names the holder's process
    DIR/secrets.env   0600, made once by `up`
    DIR/postgres/     PostgreSQL's data        both 0700, owned by the account that the stores run as
    DIR/valkey/       Valkey's data
    DIR/run/          sockets, unless the path is too long for one (see `_socket_directory`)
    DIR/log/          what the processes said
"""

import contextlib
import fcntl
import hashlib
import os
import pwd
import re
import stat
import time
from pathlib import Path

from sentinel.child import Account
from sentinel.errors import DirectoryInUse, DirectoryRefused

ACCOUNTS = ("postgres", "nobody")
ROOT_DEFAULT = Path("/var/lib/sentinel")
USER_DEFAULT = Path(".sentinel")
# sun_path holds 108 bytes on Linux and 104 on macOS; the longest name that comes after the folder is .s.PGSQL.5432.lock
SOCKET_FOLDER_MAX_BYTES = 80
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")
LEFTOVERS_END_WITHIN_S = 20.0


def default_directory() -> Path:
    return ROOT_DEFAULT if os.geteuid() == 0 else USER_DEFAULT


class DataDirectory:
    """An opened and locked data directory; ``close`` releases it.

    ``account`` is None when the stores run as ourselves.
    ``lock_fd`` is given to every leash, so that the directory counts as in use until the last process of it is gone.
    """

    def __init__(self, path: Path, account: Account | None, lock_fd: int) -> None:
        self.path = path
        self.account = account
        self.lock_fd = lock_fd
        self.sockets = self._socket_directory()

    @classmethod
    def open(cls, path: Path) -> "DataDirectory":
        """Creates what is missing. Raises DirectoryRefused, DirectoryInUse; then nothing has changed."""
        path = path.absolute().resolve()
        account = _account_for(path)
        _refuse_closed_parents(path, account)
        try:
            _create(path, 0o700 if account is None else 0o755)
            (path / "log").mkdir(exist_ok=True)
            lock_fd = _lock(path / "lock")
        except PermissionError as error:
            raise DirectoryRefused(
                f"cannot write to the data directory {path} ({error.strerror}); choose another with --data-dir"
            ) from error
        try:
            return cls(path, account, lock_fd)
        except BaseException:
            os.close(lock_fd)
            raise

    @classmethod
    def attach(cls, path: Path) -> "DataDirectory":
        """The one that another process holds open, to reach its stores: start none with it."""
        path = path.absolute().resolve()
        return cls(path, _account_for(path), -1)

    def owned_folder(self, name: str) -> Path:
        """A private folder of the account that the stores run as."""
        folder = self.path / name
        self.make_private(folder)
        return folder

    def make_private(self, folder: Path) -> None:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            if self.account is not None:
                os.chown(folder, self.account.uid, self.account.gid)

    def log(self, name: str) -> Path:
        return self.path / "log" / f"{name}.log"

    def close(self) -> None:
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1

    def _socket_directory(self) -> Path:
        """A short private folder that depends on nothing but the data directory: same directory, same addresses.

        Not below $XDG_RUNTIME_DIR or $TMPDIR: a login shell and a service manager disagree about those.
        """
        own = self.path / "run"
        if len(os.fsencode(own)) <= SOCKET_FOLDER_MAX_BYTES and PLAIN_PATH.fullmatch(str(own)):
            return self.owned_folder("run")
        uid = os.geteuid() if self.account is None else self.account.uid
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        short = Path(f"/tmp/sentinel-{uid}-{digest}")  # noqa: S108 - created 0700, and its owner is checked below
        self.make_private(short)
        found = short.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or stat.S_IMODE(found.st_mode) != 0o700:
            raise DirectoryRefused(
                f"{short}, where the sockets of {self.path} belong, is not a private folder of ours; "
                "look who made it, remove it, or choose a shorter --data-dir"
            )
        return short


def _account_for(path: Path) -> Account | None:
    """Who runs the stores: ourselves, or as root whoever owns the data already, else an unprivileged system user."""
    data = path / "postgres"
    owner = data.stat().st_uid if data.exists() else None
    if os.geteuid() != 0:
        if owner not in (None, os.geteuid()):
            raise DirectoryRefused(f"{data} belongs to another user (uid {owner}); choose another --data-dir")
        return None
    if owner:
        entry = pwd.getpwuid(owner)
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise DirectoryRefused("PostgreSQL refuses to run as root, and this system has no user postgres or nobody")


def _refuse_closed_parents(path: Path, account: Account | None) -> None:
    if account is None:
        return
    closed = closed_folder(path, account)
    if closed is not None:
        raise DirectoryRefused(
            f"the stores run as user {account.name}, who cannot enter {closed}; its permissions were left alone: "
            f"choose a --data-dir that others may enter, for example {ROOT_DEFAULT}"
        )


def closed_folder(path: Path, account: Account) -> Path | None:
    """The first existing folder on the way to ``path``, or ``path`` itself, that the account cannot enter."""
    for folder in (*reversed(path.parents), path):
        try:
            found = folder.stat()
        except FileNotFoundError:
            return None
        if found.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif found.st_gid == account.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not found.st_mode & needed:
            return folder
    return None


def _create(path: Path, mode: int) -> None:
    """Missing parents too, with the modes that are meant whatever the umask is."""
    for folder in (*reversed(path.parents), path):
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(mode if folder == path else 0o755)
    if not path.is_dir():
        raise DirectoryRefused(f"{path} is not a folder; choose another --data-dir")


def _lock(path: Path) -> int:
    lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LEFTOVERS_END_WITHIN_S
    while True:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder = os.pread(lock_fd, 32, 0).decode("ascii", "replace").strip()
            # A holder that is gone was killed; its leashes are just stopping its processes.
            if _is_alive(holder) or time.monotonic() > deadline:
                os.close(lock_fd)
                raise DirectoryInUse(
                    f"{path.parent} is in use by process {holder or '?'}; stop that one, or choose another --data-dir"
                ) from None
            time.sleep(0.05)
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, f"{os.getpid()}\n".encode(), 0)
    return lock_fd


def _is_alive(process_id: str) -> bool:
    try:
        os.kill(int(process_id), 0)
    except PermissionError:
        return True
    except (ValueError, ProcessLookupError):
        return False
    return True
