"""In what PostgreSQL, MySQL, MariaDB and SQLite differ; the rest is SQLAlchemy's."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from sqlalchemy import BigInteger, Connection, Dialect, FunctionElement, String
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles

DRIVERS = {
    "postgresql": ("asyncpg",),
    "mysql": ("asyncmy", "aiomysql"),
    "mariadb": ("asyncmy", "aiomysql"),
    "sqlite": ("aiosqlite",),
}

TAKEN_KEY = {"23505", 1062, "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_UNIQUE"}
_EXISTING = {"42P07", "42710", "23505", 1050, 1061}
_MISSING_TABLE = {"42P01", 1146}
REFUSED_LOGIN = {"28P01", "28000", 1045, 1698}
MISSING_DATABASE = {"3D000", 1049}
DENIED = {"42501", 1044, 1142, 1143, 1227, "SQLITE_READONLY", "SQLITE_PERM"}

# Nothing was done: a lock or a serialization stood in the way, there are too many connections,
# or the server is, for the time of a failover, one that cannot be written.
BUSY = {"55P03", "40P01", "40001", "53300", "25006", 1205, 1213, 1040, 1203, 1290, 1836}
_BUSY_SQLITE = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")

LOST = {
    *("08001", "08003", "08006", "57P01", "57P02", "57P03", "57P05"),
    *(2002, 2003, 2006, 2013, 2055, 1927, 4031),
}
IN_TRANSACTION_ONLY = {"25001"}
NO_SAVEPOINT = 1305

_SAVEPOINT = "flamingock_beginning"
RELEASE = f"RELEASE SAVEPOINT {_SAVEPOINT}"

# What a connection of ours is told first: that a lock is not waited for for long, and that what
# is written is durable, and not cut.
PREPARATION = {
    "postgresql": "SELECT set_config('lock_timeout', '2s', false), "
    "set_config('synchronous_commit', 'on', false)",
    "mysql": "SET SESSION innodb_lock_wait_timeout = 2, "
    "sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')",
    "sqlite": "PRAGMA synchronous = FULL",
}

# A client that is gone is noticed in the middle of a statement (PostgreSQL 14 and later, where the
# server's system can tell), so that a change that was cut off does not keep its locks.
_POSTGRESQL_BEGINNING = (
    "SELECT set_config('idle_in_transaction_session_timeout', '{idle}', true), "
    "set_config('synchronous_commit', 'on', true), "
    "(SELECT set_config(name, '1s', true) FROM pg_settings "
    "WHERE name = 'client_connection_check_interval' AND version() !~* 'visual|msvc|mingw')"
)

_COMMENTS = re.compile(r"(?:\s+|;|--[^\n]*(?:\n|\Z)|#[^\n]*(?:\n|\Z)|/\*.*?\*/|\()*", re.DOTALL)
_ENDING = re.compile(
    r"COMMIT|ROLLBACK(?!\s+(?:WORK\s+|TRANSACTION\s+)?TO\b)|BEGIN|START\s+TRANSACTION|END"
    r"|ABORT|PREPARE\s+TRANSACTION|XA",
    re.IGNORECASE,
)
# https://dev.mysql.com/doc/refman/8.4/en/implicit-commit.html
_COMMITTING = re.compile(
    r"CREATE(?!\s+(?:OR\s+REPLACE\s+)?TEMPORARY\b)|DROP(?!\s+TEMPORARY\b)|ALTER|TRUNCATE|RENAME"
    r"|GRANT|REVOKE|ANALYZE|OPTIMIZE|REPAIR|CHECK|CACHE|FLUSH|RESET|IMPORT|INSTALL|UNINSTALL|LOCK|UNLOCK|LOAD\s+INDEX"
    r"|CHANGE|START|STOP|SET\s+PASSWORD|SET\s+(?:SESSION\s+|@@(?:session\.)?)?autocommit",
    re.IGNORECASE,
)

# What surely commits nothing, on MySQL. Functions and triggers cannot.
_PLAIN = re.compile(
    r"SELECT|INSERT|UPDATE|DELETE|REPLACE|WITH|SAVEPOINT|RELEASE|ROLLBACK|SHOW|DESCRIBE|EXPLAIN"
    r"|KILL|(?:CREATE|DROP)\s+TEMPORARY",
    re.IGNORECASE,
)


def family(dialect: Dialect) -> str:
    """Return the name of a dialect; that of MySQL stands for MariaDB as well."""
    return "mysql" if dialect.name == "mariadb" else dialect.name


class ExactText(String):
    """
    Text of which every byte counts when it is compared: case, accents, blanks at the end.

    :param length: of a key; without one it may be as long as an error trace
    """


@compiles(ExactText, "mysql")
@compiles(ExactText, "mariadb")
def _exact_text(element: ExactText, compiler: Any, **_: Any) -> str:
    kind = f"VARCHAR({element.length})" if element.length else "MEDIUMTEXT"
    collation = "utf8mb4_nopad_bin" if compiler.dialect.is_mariadb else "utf8mb4_0900_bin"
    return f"{kind} CHARACTER SET utf8mb4 COLLATE {collation}"


class ServerMilliseconds(FunctionElement[int]):
    """The server's clock, in milliseconds since 1970; not that of the transaction's beginning."""

    type = BigInteger()
    inherit_cache = True


@compiles(ServerMilliseconds, "postgresql")
def _postgresql_clock(*_: Any, **__: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"


@compiles(ServerMilliseconds, "mysql")
@compiles(ServerMilliseconds, "mariadb")
def _mysql_clock(*_: Any, **__: Any) -> str:
    return "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000)"


@compiles(ServerMilliseconds, "sqlite")
def _sqlite_clock(*_: Any, **__: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


def beginning(dialect: Dialect, idle_timeout: float) -> tuple[str, ...]:
    """Return the statements that a transaction begins with."""
    match family(dialect):
        case "postgresql":
            return (_POSTGRESQL_BEGINNING.format(idle=round(idle_timeout * 1000)),)
        case "sqlite":
            return ("PRAGMA synchronous = FULL", "BEGIN IMMEDIATE")
        case _:
            return ("START TRANSACTION", f"SAVEPOINT {_SAVEPOINT}")


def ends_transaction(statement: str) -> str | None:
    """Return the words of a statement by which it says that the transaction ends."""
    return _words(_ENDING, statement)


def commits_implicitly(dialect: Dialect, statement: str) -> str | None:
    """Return the words of a statement that commits before it is run, as on MySQL all DDL does."""
    return _words(_COMMITTING, statement) if family(dialect) == "mysql" else None


def is_plain(statement: str) -> bool:
    """Say whether it is one statement that MySQL commits nothing for."""
    return _words(_PLAIN, statement) is not None and ";" not in statement.rstrip("; \n")


def _words(pattern: re.Pattern[str], statement: str) -> str | None:
    comments = _COMMENTS.match(statement)
    found = pattern.match(statement, comments.end() if comments else 0)
    if found is None or re.match(r"\w", statement[found.end() : found.end() + 1]):
        return None

    return found.group().upper()


def is_within_transaction(connection: Connection) -> bool:
    """Say whether the server last said that a transaction is open on a connection."""
    if connection.closed or connection.invalidated:
        return False

    driver: Any = connection.connection.driver_connection
    # aiosqlite: a connection that was closed beneath SQLAlchemy
    with suppress(ValueError):
        match connection.dialect.driver:
            case "asyncpg":
                return bool(driver.is_in_transaction())
            case "aiosqlite":
                return bool(driver.in_transaction)
            case _:
                return bool(driver.get_transaction_status())

    return False


def code_of(exc: BaseException) -> object:
    """Return the server's code of an error: of PostgreSQL and SQLite a text, of MySQL a number."""
    if not isinstance(exc, DBAPIError):
        return None

    # MySQL's drivers: the number is first; one of them has an SQLSTATE as well, a coarser one
    first = exc.orig.args[0] if exc.orig is not None and exc.orig.args else None
    if isinstance(first, int):
        return first

    return getattr(exc.orig, "sqlstate", None) or getattr(exc.orig, "sqlite_errorname", None)


def reason_of(exc: BaseException) -> str:
    """Return the server's own words, in one line and without statement and parameters."""
    origin = exc.orig if isinstance(exc, DBAPIError) and exc.orig is not None else exc
    origin = origin.__cause__ or origin if isinstance(exc, DBAPIError) else origin
    text = str(origin.args[-1]) if origin.args else type(origin).__name__
    return text.strip().partition("\n")[0].rstrip(".")


def is_busy(exc: BaseException) -> bool:
    """Say whether nothing was done, and the same may succeed in a moment."""
    code = code_of(exc)
    return code in BUSY or (isinstance(code, str) and code.startswith(_BUSY_SQLITE))


def is_lost(exc: BaseException) -> bool:
    """Say whether the connection ended before the answer came."""
    if isinstance(exc, DBAPIError):
        return exc.connection_invalidated or code_of(exc) in LOST

    return isinstance(exc, OSError)


def is_missing_table(exc: BaseException) -> bool:
    """Say whether a statement named a table that is not there."""
    return code_of(exc) in _MISSING_TABLE or _sqlite_says(exc, "no such table")


def is_existing(exc: BaseException) -> bool:
    """Say whether somebody else has just created the same."""
    return code_of(exc) in _EXISTING or _sqlite_says(exc, "already exists")


def _sqlite_says(exc: BaseException, words: str) -> bool:
    return code_of(exc) == "SQLITE_ERROR" and words in str(exc)


def needs_no_transaction(exc: BaseException) -> bool:
    """Say whether a statement was refused because it cannot be run within a transaction."""
    return code_of(exc) in IN_TRANSACTION_ONLY or _sqlite_says(exc, "within a transaction")
