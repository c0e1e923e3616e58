"""A container without an engine: a process of the image on a read-only root, with the mounts that compose.yaml names.

Linux alone: a mount namespace in which every folder is bound read-only below a new root, then `setpriv`, which takes
the user, all capabilities and every way to new ones away. Needs to be root; `why_not` says what is missing.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.dockerfile import Image, moved

# $1: the new root; KEPT: folders; VOLUMES: what:where; then the command. /tmp and /dev/shm are as every engine makes
# them.
_SCRIPT = """
set -eu
root=$1; shift
mount -t tmpfs -o mode=755 none "$root"
bind() { mkdir -p "$root$1"; mount --bind "$1" "$root$1"; mount -o remount,bind,ro "$root$1"; }
for folder in /*; do
    case $folder in /tmp | /proc | /root | /home) continue ;; esac
    if [ -L "$folder" ]; then cp -P "$folder" "$root/"; elif [ -d "$folder" ]; then bind "$folder"; fi
done
mkdir "$root/proc" "$root/tmp"
mount --bind /proc "$root/proc"
mount -t tmpfs -o mode=1777,nosuid,nodev,noexec none "$root/tmp"
mount -t tmpfs -o mode=1777,nosuid,nodev,noexec,size=64m none "$root/dev/shm"
for folder in $KEPT; do bind "$folder"; done
for volume in $VOLUMES; do mount --bind "${volume%%:*}" "$root${volume#*:}"; done
mount -o remount,ro "$root"
exec chroot "$root" setpriv --reuid="$USER_ID" --regid="$GROUP_ID" --clear-groups --inh-caps=-all --bounding-set=-all \
    --no-new-privs env -u KEPT -u VOLUMES -u USER_ID -u GROUP_ID -C "$WORKDIR" "$@"
"""


STOP_LIMIT_S = 60


def require() -> None:
    """Skips the test where a process cannot be confined: nothing that could be installed would help."""
    lack = why_not()
    if lack:
        pytest.skip(lack)


def why_not() -> str:
    if os.geteuid() != 0:
        return "only root may make a mount namespace here"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    return f"no mount namespace: {tried.stderr.strip()}" if tried.returncode else ""


class Container:
    """A service of compose.yaml: its command, check, settings and mounts are what that file says.

    ``settings`` are what .env would say, and where things are here; what compose.yaml leaves empty stays empty.
    """

    def __init__(self, image: Image, service: dict[str, Any], settings: dict[str, str]) -> None:
        assert service["read_only"]
        assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - what the script makes
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        self._image = image
        self._command = [*image.entrypoint, *service["command"]]
        self._check = service.get("healthcheck", {}).get("test", ["CMD", *image.healthcheck])[1:]
        self._volumes = [self._new_volume(volume.partition(":")[2]) for volume in service.get("volumes", [])]
        given: dict[str, str] = service["environment"]
        self._settings = given | {name: value for name, value in settings.items() if given.get(name) != ""}
        self._process: subprocess.Popen[bytes] | None = None
        self._said = b""

    def _new_volume(self, place: str) -> str:
        """As Docker makes one: empty here, and owned like the image's folder that it covers. ``what:where``."""
        where = Path(moved(place, self._image.root))
        what = Path(tempfile.mkdtemp(prefix="volume-", dir=self._image.root.parent))
        shutil.copystat(where, what)
        os.chown(what, where.stat().st_uid, where.stat().st_gid)
        return f"{what}:{where}"

    def start(self) -> "subprocess.Popen[bytes]":
        return self.run(self._command)

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        self._process = self.start()
        try:
            yield self
        finally:
            self._process.kill()
            self._process.communicate(timeout=STOP_LIMIT_S)

    async def is_healthy(self) -> bool:
        """By its own check, whose port is the one of the file."""
        assert self._process is not None
        assert self._process.poll() is None, self._process.communicate(timeout=STOP_LIMIT_S)[0].decode()
        asked = self.run(
            [part.replace(":7080/", f":{self._settings['SENTINEL_CONSOLE_PORT']}/") for part in self._check]
        )
        await asyncio.to_thread(asked.communicate)
        return asked.returncode == 0

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self._process is not None
        self._process.terminate()
        self._said, _ = self._process.communicate(timeout=STOP_LIMIT_S)
        return self._process.returncode

    def said(self) -> str:
        """All that it logged until it was stopped."""
        return self._said.decode()

    def run(self, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        """Any command in a container like it."""
        image = self._image
        uid, _, gid = image.user.partition(":")
        base = Path(sys.base_prefix)
        place = image.root.parent / "confined"
        place.mkdir(exist_ok=True)
        environment = {name: moved(value, image.root) for name, value in (image.environment | self._settings).items()}
        ours = {
            "PATH": f"{environment['PATH']}:/usr/sbin:/sbin",
            "KEPT": "" if base.is_relative_to("/usr") else str(base),
            "VOLUMES": " ".join(self._volumes),
            "USER_ID": uid,
            "GROUP_ID": gid,
            "WORKDIR": moved(image.workdir, image.root),
        }
        script = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _SCRIPT, "confined", str(place)]
        return subprocess.Popen(
            [*script, *(moved(part, image.root) for part in command)],
            env=environment | ours,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
