"""The relational databases, each empty, for tests that hold on all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster
from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import create_async_engine

SERVERS = ("postgresql", "mysql+asyncmy", "mysql+aiomysql")
DATABASES = ("sqlite", *SERVERS)


def excuse_drivers(blockbuster: BlockBuster) -> None:
    """Let pass what drivers do with the file system when they begin to connect."""
    engine = ("sqlalchemy/dialects/sqlite/pysqlite.py", "create_connect_args")
    blockbuster.functions["os.path.abspath"].can_block_in(*engine)
    # asyncmy looks for its own version when it is imported
    version = ("importlib/metadata/__init__.py", "read_text")
    blockbuster.functions["io.TextIOWrapper.read"].can_block_in(*version)
    for name in ("os.stat", "os.path.abspath"):
        parsing = ("asyncpg/connect_utils.py", "_parse_connect_dsn_and_args")
        blockbuster.functions[name].can_block_in(*parsing)


@pytest.fixture
def excused_sql(blockbuster: BlockBuster) -> None:
    """Let pass what :func:`excuse_drivers` does."""
    excuse_drivers(blockbuster)


def sqlite_url(folder: Path) -> URL:
    """Return the URL of a database in a file."""
    return URL.create("sqlite+aiosqlite", database=f"{folder}/db")


def url_of(name: str, request: pytest.FixtureRequest) -> URL:
    """Return the URL of an empty database."""
    if name == "sqlite":
        return sqlite_url(request.getfixturevalue("tmp_path"))

    url: URL
    if name == "postgresql":
        url = request.getfixturevalue("postgresql_url")
        return url

    url = request.getfixturevalue("mariadb_url")
    return url.set(drivername=name)


async def query(url: URL, statement: str, **values: Any) -> list[Any]:
    """Run a statement on a connection of its own, and return the rows that it gives."""
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            result = await connection.execute(text(statement), values)
            return list(result.all()) if result.returns_rows else []
    finally:
        await engine.dispose()
