"""The embedded stores: the same directory gives the same addresses and data, whatever ended the last run."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
import redis

from sentinel.services import Stores
from tests.support import databases
from tests.support.processes import Sentinel, named, processes_of, sentinel
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

Ending = Callable[[Sentinel, Path], int]


def asked(running: Sentinel, _folder: Path) -> int:
    return running.end(signal.SIGTERM)


def killed(running: Sentinel, _folder: Path) -> int:
    return running.end(signal.SIGKILL)


def postgres_killed(running: Sentinel, folder: Path) -> int:
    os.kill(named(folder, "bin/postgres -D")[0], signal.SIGKILL)
    return running.wait()


def valkey_killed(running: Sentinel, folder: Path) -> int:
    os.kill(named(folder, "valkey-server")[0], signal.SIGKILL)
    return running.wait()


def addresses(running: Sentinel) -> dict[str, str]:
    said = running.wait_for("REDIS_URL=").splitlines()
    return dict(line.split("=", 1) for line in said)


@pytest.mark.parametrize(
    ("ending", "status", "complaint"),
    [
        (asked, 0, ""),
        (killed, -signal.SIGKILL, ""),
        (postgres_killed, 1, "error: postgres ended by SIGKILL"),
        (valkey_killed, 1, "error: valkey ended by SIGKILL"),
    ],
)
async def test_same_directory_gives_same_addresses_and_data(
    data_dir: Path, ending: Ending, status: int, complaint: str
) -> None:
    """At once after the end: of a run that could end in order nothing is left, of a killed one it is waited for."""
    with sentinel(data_dir, "services") as running:
        first = addresses(running)
        connection = await asyncpg.connect(first["PG_DSN"])
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS number")
        await connection.close()
        with redis.Redis.from_url(first["REDIS_URL"]) as client:
            client.set("kept", "42")
        assert ending(running, data_dir) == status
        assert complaint in running.stderr
        assert ending is killed or processes_of(data_dir) == []

    with sentinel(data_dir, "services") as running:
        assert addresses(running) == first
        connection = await asyncpg.connect(first["PG_DSN"])
        assert await connection.fetchval("SELECT number FROM kept") == 42
        await connection.close()
        with redis.Redis.from_url(first["REDIS_URL"]) as client:
            assert client.get("kept") == b"42"


async def test_new_run_waits_for_what_a_killed_one_left(data_dir: Path) -> None:
    """Held up here: a leash that is stopped cannot end its store, and the directory stays locked."""
    with sentinel(data_dir, "services") as running:
        first = addresses(running)
        leashes = named(data_dir, "sentinel/leash.py")
        for leash in leashes:
            os.kill(leash, signal.SIGSTOP)
        running.end(signal.SIGKILL)
    with sentinel(data_dir, "services") as second:
        await eventually(lambda: has_open(second.process.pid, data_dir / "lock") or second.process.poll() is not None)
        for leash in leashes:
            os.kill(leash, signal.SIGCONT)
        assert addresses(second) == first


def has_open(process_id: int, path: Path) -> bool:
    return any(entry.resolve() == path for entry in Path(f"/proc/{process_id}/fd").iterdir())


def test_second_run_on_the_same_directory_says_that_it_is_in_use(data_dir: Path) -> None:
    with sentinel(data_dir, "services") as running:
        addresses(running)
        with sentinel(data_dir, "services") as second:
            assert second.wait() == 1
        assert f"{data_dir} is in use by process {running.process.pid}" in second.stderr
        assert running.process.poll() is None


def test_a_back_end_that_ends_while_postgresql_is_paused_and_woken_is_no_fault(
    own_stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there when its number was read: here the first number that no process ever has."""
    nobody = int(Path("/proc/sys/kernel/pid_max").read_text())
    everybody = own_stores.postgres._all_processes
    monkeypatch.setattr(own_stores.postgres, "_all_processes", lambda: [nobody, *everybody()])
    own_stores.postgres.pause()
    own_stores.postgres.resume()
    assert databases.sql(own_stores.postgres, "SELECT 1") == "1"
