"""`sentinel user` on the machine itself: nobody is signed in, nothing locks it, the audit has it."""

import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from sentinel.services import open_stores
from tests.support import databases, processes

pytestmark = pytest.mark.anyio

PASSWORD = "a password of some length"


def user(*arguments: str, given: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sentinel", "user", *arguments],
        env=processes.environment(Path("/nonexistent"), **settings),
        cwd="/",
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=processes.LIMIT_S,
    )


async def rows(dsn: str, statement: str) -> list:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


async def test_operator_is_added_and_listed(pg_dsn: str) -> None:
    """With the password from stdin, which is hashed and shown nowhere."""
    done = user("add", "root", "--role", "admin", given=f"{PASSWORD}\n", PG_DSN=pg_dsn)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert PASSWORD not in done.stderr
    assert user("list", PG_DSN=pg_dsn).stdout == "root\tadmin\tactive\tnever\n"
    [(password_hash,)] = await rows(pg_dsn, "SELECT password_hash FROM admin_user")
    assert password_hash.startswith("$argon2id$")
    [(kind, action, name)] = await rows(pg_dsn, "SELECT actor_kind, action, subject_name FROM admin_audit")
    assert (kind, action, name) == ("local", "operator:add", "root")


async def test_generated_password_is_all_that_is_printed(pg_dsn: str) -> None:
    """Resetting ends the operator's sessions and alters the version."""
    first = user("add", "mei", "--generate", PG_DSN=pg_dsn)
    await rows(
        pg_dsn,
        "INSERT INTO admin_session (id, user_id, refresh_hash, expires_at) "
        "SELECT gen_random_uuid(), id, 'x', now() + interval '1 day' FROM admin_user",
    )
    second = user("reset-password", "MEI", "--generate", PG_DSN=pg_dsn)
    for done in (first, second):
        assert (done.returncode, len(done.stdout.strip())) == (0, 24), done.stderr
    assert first.stdout != second.stdout
    assert await rows(pg_dsn, "SELECT version, role FROM admin_user") == [(2, "viewer")]
    assert await rows(pg_dsn, "SELECT count(*) FROM admin_session WHERE revoked_at IS NULL") == [(0,)]


def test_embedded_store_is_reached_running_or_not(data_dir: Path) -> None:
    """PG_DSN is not needed where the data directory of `up` is."""
    with open_stores(data_dir, fast=True) as stores:
        databases.migrate(stores.pg_dsn)
        done = user("add", "root", "--role", "admin", "--generate", "--data-dir", str(data_dir))
        assert done.returncode == 0, done.stderr
    done = user("list", "--data-dir", str(data_dir))
    assert (done.stdout, done.returncode) == ("root\tadmin\tactive\tnever\n", 0), done.stderr


@pytest.mark.parametrize(
    ("arguments", "given", "message"),
    [
        (["add", "root"], "short\n", "shorter than 12 characters"),
        (["add", "root"], "", "shorter than 12 characters"),
        (["add", "a b"], PASSWORD, "a name has"),
        (["reset-password", "nobody"], PASSWORD, "there is no operator nobody"),
    ],
)
async def test_fault_is_said_plainly(arguments: list[str], given: str, message: str, pg_dsn: str) -> None:
    done = user(*arguments, given=given, PG_DSN=pg_dsn)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


async def test_name_that_is_taken_is_said(pg_dsn: str) -> None:
    for status in (0, 1):
        done = user("add", "root", "--generate", PG_DSN=pg_dsn)
        assert done.returncode == status
    assert "there is an operator root already" in done.stderr
    assert done.stdout == ""


async def test_absent_database_is_said_without_its_password(tmp_path: Path) -> None:
    done = user("list", PG_DSN="postgresql://u:verysecret@127.0.0.1:9/x")
    assert done.returncode == 1
    assert "cannot reach PostgreSQL" in done.stderr
    assert "verysecret" not in done.stderr
    done = user("list", "--data-dir", str(tmp_path))
    assert "holds no database" in done.stderr


async def test_missing_tables_are_said(stores) -> None:
    done = user("list", PG_DSN=stores.postgres.dsn_of("postgres"))
    assert done.returncode == 1
    assert "run `sentinel migrate`" in done.stderr
