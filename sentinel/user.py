"""`sentinel user`: operators on the machine itself, for whoever cannot sign in (any more).

Needs PostgreSQL and nothing else: PG_DSN, or the embedded store of a data directory, whether `up` runs there or not.
No lockout holds it off; what it does is in the audit as ``local``, with the account of the system that did it.
"""

import asyncio
import contextlib
import getpass
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import asyncpg
import click
import msgspec
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from admin_api.actors import Actor, ActorKind, Role, Scope
from admin_api.errors import AdminError
from admin_api.models.operators import AdminUserRow
from admin_api.operations import operators
from admin_api.operations.operators import NewOperator
from admin_api.passwords import hash_now
from admin_api.schemas.operators import OperatorName
from sentinel.environment import surroundings
from sentinel.errors import DirectoryInUse, SentinelError
from sentinel.services.directory import DataDirectory, default_directory
from sentinel.services.postgres import PostgresStore

TIMEOUT_S = 30.0
LISTED_MAX = 10_000
UNDEFINED_TABLE = "42P01"

T = TypeVar("T")


def add(name: str, role: str, password: str, data_dir: Path | None = None) -> None:
    """Raises SentinelError: the name is taken or malformed, the password too weak, PostgreSQL away."""

    async def work(session: AsyncSession) -> None:
        await operators.add(session, _actor(), new)

    with _plainly():
        new = NewOperator(msgspec.convert(name, OperatorName), Role(role), hash_now(password))
        _run(work, data_dir)
    click.echo(f"operator {name} added with the role {role}", err=True)


def reset_password(name: str, password: str, data_dir: Path | None = None) -> None:
    """Raises SentinelError."""

    async def work(session: AsyncSession) -> AdminUserRow:
        found = await session.scalar(select(AdminUserRow.id).where(func.lower(AdminUserRow.name) == func.lower(name)))
        if found is None:
            raise SentinelError(f"there is no operator {name}; `sentinel user list` names them all")
        return await operators.reset_password(session, _actor(), found, password_hash)

    with _plainly():
        password_hash = hash_now(password)
        changed = _run(work, data_dir)
    click.echo(f"operator {changed.name} has a new password and is signed out everywhere", err=True)
    if changed.disabled:
        click.echo(f"operator {changed.name} is disabled: another administrator has to enable it", err=True)


def lines(data_dir: Path | None = None) -> list[str]:
    """``name<TAB>role<TAB>active|disabled<TAB>last sign-in or never``. Raises SentinelError."""

    async def work(session: AsyncSession) -> list[str]:
        rows = await session.scalars(select(AdminUserRow).order_by(AdminUserRow.id).limit(LISTED_MAX))
        return [
            "\t".join(
                (
                    row.name,
                    row.role,
                    "disabled" if row.disabled else "active",
                    row.last_login_at.isoformat(timespec="seconds") if row.last_login_at else "never",
                )
            )
            for row in rows
        ]

    with _plainly():
        return _run(work, data_dir)


def _run(work: Callable[[AsyncSession], Awaitable[T]], data_dir: Path | None) -> T:
    with _database(data_dir) as dsn:
        return asyncio.run(_in_transaction(dsn, work))


async def _in_transaction(dsn: str, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(dsn, timeout=TIMEOUT_S, command_timeout=TIMEOUT_S),
    )
    try:
        async with AsyncSession(engine, expire_on_commit=False) as session, session.begin():
            return await work(session)
    finally:
        await engine.dispose()


@contextlib.contextmanager
def _database(data_dir: Path | None) -> Iterator[str]:
    """As for `up`, PG_DSN goes before the data directory. A store that does not run is started for the moment."""
    dsn = surroundings().get("PG_DSN")
    if dsn:
        yield dsn
        return
    path = data_dir or default_directory()
    if not (path / "postgres").is_dir():
        raise SentinelError(f"PG_DSN is not set, and {path} holds no database; choose another with --data-dir")
    try:
        directory = DataDirectory.open(path)
    except DirectoryInUse:
        yield PostgresStore(DataDirectory.attach(path)).dsn
        return
    with contextlib.closing(directory):
        store = PostgresStore(directory)
        try:
            store.start()
            yield store.dsn
        finally:
            store.stop()


@contextlib.contextmanager
def _plainly() -> Iterator[None]:
    """Foreign faults in words for the person at the terminal; none of them shows the DSN or the password."""
    try:
        yield
    except AdminError as error:
        raise SentinelError(error.detail or error.title) from error
    except msgspec.ValidationError:
        raise SentinelError("a name has 1 to 64 letters, digits and . @ + - _, a letter or digit first") from None
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", "") == UNDEFINED_TABLE:
            raise SentinelError("the database has no tables yet; run `sentinel migrate`") from None
        raise SentinelError(f"PostgreSQL refused: {type(error.orig).__name__}") from None
    except asyncpg.PostgresError as error:
        raise SentinelError(f"PostgreSQL refused: {error}") from None
    except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
        raise SentinelError(f"cannot reach PostgreSQL: {type(error).__name__}; see PG_DSN") from None


def _actor() -> Actor:
    try:
        account = getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        account = "?"
    return Actor(ActorKind.LOCAL, account, frozenset(Scope))
