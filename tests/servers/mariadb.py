"""
A MariaDB server: one of your own (it may be MySQL), or the one that is installed.

``AFLAMINGOCK_TEST_MYSQL_URL`` names one of your own; its user must be allowed everything.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import pytest
from sqlalchemy import URL, make_url

from tests.servers import data_folder, free_port, give_up, guarded, once, wait_until
from tests.servers.postgresql import execute

OWN = "AFLAMINGOCK_TEST_MYSQL_URL"
DRIVER = "mysql+asyncmy"


@pytest.fixture
def mariadb_server(request: pytest.FixtureRequest) -> URL:
    """Give the URL of a server, for its administrator."""
    if own := os.environ.get(OWN):
        return make_url(own).set(drivername=DRIVER)

    if find_spec("asyncmy") is None:
        give_up("MariaDB: the package asyncmy is missing.")

    return once(request.config, _running)


def _command(name: str) -> str:
    # Debian keeps servers where the PATH of ordinary users does not look.
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    return shutil.which(name, path=path) or give_up(
        f"MariaDB: {name} is missing (install the package mariadb-server), and {OWN} is not set."
    )


@contextmanager
def _running() -> Iterator[URL]:
    server, install = _command("mariadbd"), _command("mariadb-install-db")
    with data_folder() as folder:
        data, log, port = folder / "data", folder / "log", free_port()
        user = ["--user=root"] if os.geteuid() == 0 else []
        options = ["--no-defaults", f"--datadir={data}", "--innodb-use-native-aio=0", *user]
        access = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        with log.open("w") as output:
            made = subprocess.run([install, *options, *access], stdout=output, stderr=output)

        if made.returncode != 0:
            raise RuntimeError(f"mariadb-install-db has failed: {log.read_text()[-2000:]}")

        command = [
            *(server, *options),
            *("--bind-address=127.0.0.1", f"--port={port}", f"--socket={folder / 'socket'}"),
            *("--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M", "--skip-log-bin"),
            *(f"--pid-file={folder / 'pid'}", "--performance-schema=off"),
        ]
        with guarded(command, log=log) as process:
            wait_until(lambda: _listens(port), process, log=log)
            yield URL.create(DRIVER, "root", None, "127.0.0.1", port, "mysql")


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


@pytest.fixture
async def mariadb_url(mariadb_server: URL) -> AsyncIterator[URL]:
    """Give the URL of an empty database."""
    name = f"test_{uuid.uuid4().hex}"
    await execute(mariadb_server, f"CREATE DATABASE {name}")
    yield mariadb_server.set(database=name)
    await execute(mariadb_server, f"DROP DATABASE {name}")


@pytest.fixture
async def mariadb_role(mariadb_server: URL) -> AsyncIterator[str]:
    """Give the name of a user who may connect, and no more; the password is its name."""
    name = f"user_{uuid.uuid4().hex[:16]}"
    await execute(mariadb_server, f"CREATE USER {name}@'%%' IDENTIFIED BY '{name}'")
    yield name
    await execute(mariadb_server, f"DROP USER {name}@'%%'")
