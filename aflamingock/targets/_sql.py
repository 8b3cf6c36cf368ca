"""What the SQL target and the SQL store share: engines and names."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import anyio
from anyio.to_thread import run_sync
from sqlalchemy import URL, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ..exceptions import ConfigurationError
from ._refusal import Naming
from ._sql_dialect import DRIVERS, PREPARATION, family

CLOSING_TIME = 10.0

_KNOWN = ", ".join(f"{name}+{driver}" for name in DRIVERS for driver in DRIVERS[name])
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,54}", re.ASCII)

check_names = Naming(
    form=re.compile(r"(?!sqlite_)[a-z_][a-z0-9_]{0,54}", re.ASCII | re.IGNORECASE),
    told="a repository. Give a letter or underscore, then up to 54 letters, digits and "
    "underscores, not beginning with 'sqlite_'.",
    without_case="not every database tells capitals from small letters",
)


def check_schema(schema: str | None) -> None:
    """
    Check the name of a schema.

    :raises ConfigurationError: if it is no name
    """
    if schema is not None and not _NAME.fullmatch(schema):
        raise ConfigurationError(
            f"schema={schema!r}: give a letter or underscore, then up to 54 letters, digits and "
            "underscores."
        )


def check_engine(engine: AsyncEngine) -> None:
    """
    Check that an engine is one that was tried, and that others can see what is written.

    :raises ConfigurationError: if it is not
    """
    drivers = DRIVERS.get(engine.dialect.name, ())
    if engine.dialect.driver not in drivers:
        raise ConfigurationError(
            f"An engine for {engine.dialect.name}+{engine.dialect.driver} cannot be used. Give "
            f"one for {_KNOWN}."
        )

    if engine.dialect.name == "sqlite" and not is_file(engine.url):
        raise ConfigurationError(
            f"{engine.url.database!r} is not the path of a file. Give one: only a file is there "
            "for other processes, and after this one."
        )


def is_file(url: URL) -> bool:
    """Say whether the URL of a SQLite database is the path of a file, and no URI."""
    name = url.database or ""
    return name not in ("", ":memory:") and not name.lower().startswith("file:")


def engine_of(url: str | URL) -> AsyncEngine:
    """
    Return an engine for a URL, with an asyncio driver where it names none.

    :raises ConfigurationError: if the URL cannot be read, or its driver is not installed
    """
    try:
        parsed = make_url(url)
        if "@" in (parsed.host or "") or (parsed.username and "@" in (parsed.database or "")):
            raise ValueError  # the rest of a password in which it is not escaped
    except (ArgumentError, ValueError):
        # The cause may show a part of the URL, and so of the password.
        raise ConfigurationError(
            "The URL of the database cannot be read. Give it as "
            "'postgresql://user:password@host:port/database', with odd characters in the "
            "password written as %XX."
        ) from None

    if parsed.drivername in DRIVERS:
        driver = _installed(DRIVERS[parsed.drivername])
        parsed = parsed.set(drivername=f"{parsed.drivername}+{driver}")

    try:
        return create_async_engine(parsed, hide_parameters=True)
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            f"{parsed.drivername}:// needs {exc.name}, which is not installed. Install it with: "
            f"python3 -m pip install {exc.name}"
        ) from exc
    except (ArgumentError, ImportError, SQLAlchemyError) as exc:
        raise ConfigurationError(
            f"There is no engine for {parsed.drivername!r} URLs: {exc}. Give one for {_KNOWN}."
        ) from exc


def _installed(drivers: Sequence[str]) -> str:
    return next((driver for driver in drivers if find_spec(driver)), drivers[0])


def place_of(engine: AsyncEngine) -> str:
    """Return where a database is, without user and password."""
    url = engine.url
    host = f"{url.host or ''}:{url.port}" if url.port else url.host or ""
    name = url.get_backend_name()
    return str(url.database) if name == "sqlite" else f"{name}://{host}/{url.database or ''}"


async def look_first(engine: AsyncEngine) -> None:
    """
    Look whether a SQLite file can be opened; nothing is done with other databases.

    Where aiosqlite cannot connect, it leaves its thread behind, which may then find the event loop
    closed.

    :raises DBAPIError: if the file cannot be opened
    """
    if family(engine.dialect) == "sqlite":
        try:
            await run_sync(lambda: sqlite3.connect(str(engine.url.database)).close())
        except sqlite3.Error as exc:
            raise DBAPIError(None, None, exc) from exc


async def connect(engine: AsyncEngine) -> AsyncConnection:
    """
    Return a connection of an engine.

    :raises DBAPIError: also for what asyncpg raises, which SQLAlchemy 2.0 passes on as it is
    """
    try:
        return await engine.connect()
    except Exception as exc:
        if type(exc).__module__.partition(".")[0] != "asyncpg":
            raise

        raise DBAPIError(None, None, exc) from exc


@asynccontextmanager
async def connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Lend a connection of an engine; errors are those of :func:`connect`."""
    connection = await connect(engine)
    try:
        yield connection
    finally:
        with anyio.move_on_after(CLOSING_TIME, shield=True):
            await connection.close()


def own_engine(engine: AsyncEngine) -> AsyncEngine:
    """
    Return an engine of the same settings, with a pool of its own and a commit at every statement.

    So nothing waits for a connection that a change holds, and one statement is one round trip.
    """
    options = dict(engine.sync_engine.get_execution_options())
    options.pop("isolation_level", None)
    return _committing(
        engine.url, pool=engine.sync_engine.pool.recreate(), execution_options=options
    )


def engine_beside(engine: AsyncEngine, suffix: str) -> AsyncEngine:
    """Return such an engine for a SQLite file beside that of *engine*."""
    return _committing(engine.url.set(database=f"{engine.url.database}{suffix}"))


def _committing(url: URL, **settings: Any) -> AsyncEngine:
    own = create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        hide_parameters=True,
        **settings,
    )
    statement = PREPARATION[family(own.dialect)]

    def prepare(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute(statement)
        cursor.close()

    event.listen(own.sync_engine, "connect", prepare)
    return own
