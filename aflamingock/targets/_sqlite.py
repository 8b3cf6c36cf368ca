"""What the SQLite target and the SQLite store share: files, connections, kinds of errors."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Literal

import aiosqlite
import anyio
from anyio.to_thread import run_sync

from ..exceptions import ConfigurationError, FlamingockError, SystemBusyError
from ._refusal import Naming

PATIENCE = 0.5
"""How long a connection waits for somebody else's transaction by itself, in seconds."""

CLOSING_TIME = 10.0
"""How long an end that must not be cut off may take, in seconds."""

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}

check_names = Naming(
    form=re.compile(r"(?!sqlite_)[a-z_][a-z0-9_]{0,54}", re.ASCII | re.IGNORECASE),
    told="a repository. Give a letter or underscore, then up to 54 letters, digits and "
    "underscores, not beginning with 'sqlite_'.",
    without_case="SQLite does not tell capitals from small letters",
)


class SQLiteFile:
    """
    The place of a database.

    Its real path is looked up once, when it is first opened, so that everybody who comes by
    another link, or has changed the folder since, still finds the same database.

    :param path: where it is; a relative one starts from the current folder at the first opening
    :raises ConfigurationError: if *path* is no path of a file
    """

    def __init__(self, path: str | Path) -> None:
        try:
            text = os.fsdecode(path)
        except TypeError:  # no path at all
            text = ""

        if text in ("", ":memory:") or "\0" in text:
            raise ConfigurationError(
                f"{path!r} is not the path of a file. Give one: only a file is there for other "
                "processes, and after this one."
            )

        if text.lower().startswith("file:"):
            raise ConfigurationError(f"{text!r} is a URI. Give the path of the file instead.")

        self.given = text
        self._real: str | None = None

    async def locate(self) -> str:
        """Return the real path, looked up in a worker thread."""
        if self._real is None:
            self._real = await run_sync(os.path.realpath, self.given)

        return self._real

    def is_same(self, other: SQLiteFile) -> bool:
        """Say whether both are one file; looks at the file system only where it must."""
        return self.given == other.given or self._located() == other._located()

    def _located(self) -> str:
        return self._real or os.path.realpath(self.given)


async def connect(
    path: str,
    *,
    mode: Literal["rw", "rwc"],
    factory: type[sqlite3.Connection] = sqlite3.Connection,
) -> aiosqlite.Connection:
    """
    Connect to a file: every statement commits by itself, and durably.

    :param path: an absolute path
    :param mode: ``"rwc"`` creates the file if it is missing, ``"rw"`` does not
    :raises sqlite3.Error: if it cannot be opened, or is no database
    """
    uri = f"{Path(path).as_uri()}?mode={mode}"
    # Cut off half-way, a connection would be left to the garbage collector.
    with anyio.CancelScope(shield=True):
        # Where aiosqlite cannot connect, it leaves its thread behind, which may then find the
        # event loop closed.
        await run_sync(_try_to_connect, uri)
        connection = await aiosqlite.connect(
            uri, uri=True, isolation_level=None, timeout=PATIENCE, factory=factory
        )
        try:
            await connection.execute_fetchall("PRAGMA synchronous=FULL")
        except BaseException:
            await close(connection)
            raise

    return connection


def _try_to_connect(uri: str) -> None:
    sqlite3.connect(uri, uri=True).close()


async def close(connection: aiosqlite.Connection) -> None:
    """Close a connection after all that was sent to it; an open transaction is rolled back."""
    with anyio.move_on_after(CLOSING_TIME, shield=True), suppress(sqlite3.Error):
        await connection.close()


def error_code(exc: sqlite3.Error) -> int:
    """Return the primary code of an error, 0 if it has none."""
    return int(getattr(exc, "sqlite_errorcode", 0)) & 0xFF


def is_busy(exc: sqlite3.Error) -> bool:
    """Say whether somebody else's transaction stood in the way."""
    return error_code(exc) in _BUSY


def is_missing_table(exc: sqlite3.Error) -> bool:
    """Say whether a statement named a table that is not there."""
    return error_code(exc) == sqlite3.SQLITE_ERROR and "no such table" in str(exc)


def is_taken_key(exc: sqlite3.Error) -> bool:
    """Say whether an insert was refused because its key is there already."""
    return getattr(exc, "sqlite_errorcode", 0) in (
        sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
        sqlite3.SQLITE_CONSTRAINT_UNIQUE,
    )


def busy_error(path: str) -> SystemBusyError:
    """Return the error for a file that is locked."""
    return SystemBusyError(
        f"{path} is locked by somebody else's transaction, and nothing was done. Try again when "
        "that has ended."
    )


def is_within_transaction(connection: aiosqlite.Connection) -> bool:
    """Say whether a transaction is open on a connection, which may be closed."""
    # A closed connection raises ValueError.
    with suppress(ValueError):
        return connection.in_transaction

    return False


def require_transaction(session: aiosqlite.Connection, file: SQLiteFile) -> None:
    """
    Make sure that what is written next is part of the transaction.

    :raises FlamingockError: if the transaction has been ended from within
    """
    if is_within_transaction(session):
        return

    raise FlamingockError(
        f"The transaction on {file.given} was ended by a statement in it, such as INSERT OR "
        "ROLLBACK, or by an error that the change has hidden. Let the error leave the change."
    )
