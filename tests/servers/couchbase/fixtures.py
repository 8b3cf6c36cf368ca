"""
Couchbase for the tests: a stand-in on this machine, or a server of your own.

``AFLAMINGOCK_TEST_COUCHBASE_URL`` names one, as ``couchbase://USER:PASSWORD@HOST``; its user must
be allowed everything in a bucket called ``test``. Each test has a scope of its own there.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import uuid4

import pytest
from acouchbase.cluster import AsyncCluster
from couchbase.auth import PasswordAuthenticator
from couchbase.exceptions import ScopeNotFoundException
from couchbase.options import ClusterOptions, TransactionConfig

from aflamingock.targets import _couchbase as plumbing
from aflamingock.targets._couchbase_url import read_url
from tests.servers import data_folder, free_port, guarded, once, wait_until

OWN = "AFLAMINGOCK_TEST_COUCHBASE_URL"
BUCKET = "test"
ADMINISTRATOR = ("Administrator", "pass:w/rd@1")
READER = ("reader", "reader")  # of everything
WRITER = ("writer", "writer")  # of documents; may not look at collections

_ROOT = str(Path(__file__).parents[3])
_RUN = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module('tests.servers.couchbase.node', run_name='__main__')"
)


class Call(NamedTuple):
    """A request that the stand-in has seen."""

    operation: str
    key: str
    is_durable: bool


class CouchbaseServer:
    """
    The stand-in, in a process of its own.

    :param stack: ends it
    """

    def __init__(self, stack: ExitStack) -> None:
        folder, self.port, self.management_port = (
            stack.enter_context(data_folder()),
            free_port(),
            free_port(),
        )
        ports = (str(self.port), str(self.management_port))
        log = folder / "log"
        process = stack.enter_context(guarded([sys.executable, "-c", _RUN, _ROOT, *ports], log=log))
        wait_until(self._listens, process, log=log)

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True

        return False

    def url(
        self,
        user: str = ADMINISTRATOR[0],
        password: str = ADMINISTRATOR[1],
        *,
        port: int | None = None,
    ) -> str:
        """
        Return the URL for a user.

        :param port: of a proxy
        """
        credentials = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"couchbase://{credentials}@127.0.0.1:{port or self.port}"

    def calls(self) -> list[Call]:
        """Return what was asked since the last :meth:`forget`."""
        return [Call(*call) for call in self._ask("calls")]

    def document_calls(self) -> list[Call]:
        """Return what was asked of aflamingock's own documents since the last :meth:`forget`."""
        return [call for call in self.calls() if "::" in call.key]

    def forget(self) -> None:
        """Forget the calls so far."""
        self._ask("forget")

    def keys(self, scope: str, collection: str) -> list[str]:
        """Return the keys of a collection, also of what is only staged, or deleted."""
        keys: list[str] = self._ask("keys", [BUCKET, scope, collection])
        return keys

    def advertise(self, network: str, **ports: int) -> None:
        """
        Tell clients of a network other ports, as alternate addresses.

        :param ports: by the name of the service
        """
        self._ask("address", [network, ports])

    def withdraw(self, network: str) -> None:
        """Forget the alternate addresses of a network."""
        self._ask("withdraw", network)

    @contextmanager
    def failing(self, operation: str, how: str, **details: Any) -> Iterator[None]:
        """
        Let operations fail while the block runs.

        :param how: ``lose`` the answer, ``drop`` the request, ``slow`` or ``refuse``
        :param details: ``key``, ``times``, ``skip``, ``seconds``, ``status``
        """
        self._ask("fail", {"operation": operation, "how": how, **details})
        try:
            yield
        finally:
            self._ask("heal")

    def _ask(self, what: str, body: object = None) -> Any:
        url = f"http://127.0.0.1:{self.management_port}/tests/{what}"
        with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=30) as answer:
            return json.load(answer)


@contextmanager
def _running() -> Iterator[CouchbaseServer]:
    with ExitStack() as stack:
        yield CouchbaseServer(stack)


@pytest.fixture
def couchbase_server(request: pytest.FixtureRequest) -> CouchbaseServer:
    """The stand-in, for tests of what a server does not do on demand."""
    if os.environ.get(OWN):
        pytest.skip(f"this needs the stand-in, and {OWN} names another server")

    return once(request.config, _running)


def url_of_server(config: pytest.Config) -> str:
    """Return the URL of a server, which is started if need be."""
    return os.environ.get(OWN) or once(config, _running).url()


@pytest.fixture
def couchbase_url(request: pytest.FixtureRequest) -> str:
    """The URL of a server."""
    return url_of_server(request.config)


@asynccontextmanager
async def connected(url: str, *, tracer: Any = None, **cleanup: Any) -> AsyncIterator[AsyncCluster]:
    """
    Connect a cluster.

    Its reports are off, because their threads would go on when it is closed.

    :param tracer: is told by the SDK of each request
    :param cleanup: how the SDK tidies up the transactions of others; by default not at all
    """
    address, *credentials = read_url(url)
    config = TransactionConfig(
        **(cleanup or {"cleanup_lost_attempts": False, "cleanup_client_attempts": False})
    )
    options = ClusterOptions(
        PasswordAuthenticator(*credentials),
        transaction_config=config,
        tracer=tracer,
        enable_tracing=tracer is not None,
        enable_metrics=False,
    )
    cluster = await AsyncCluster.connect(address, options)
    try:
        yield cluster
    finally:
        await cluster.close()


@pytest.fixture
async def cluster(couchbase_url: str) -> AsyncIterator[AsyncCluster]:
    """A cluster in the test's event loop."""
    async with connected(couchbase_url) as cluster:
        yield cluster


@pytest.fixture
async def scope_name(cluster: AsyncCluster) -> AsyncIterator[str]:
    """The name of a scope of the test's own, which is not there yet."""
    name = f"test_{uuid4().hex[:16]}"
    yield name
    await _drop_scope(cluster, name)


async def drop_scope(url: str, name: str) -> None:
    """Remove a scope if it is there."""
    async with connected(url) as cluster:
        await _drop_scope(cluster, name)


async def _drop_scope(cluster: AsyncCluster, name: str) -> None:
    bucket = cluster.bucket(BUCKET)
    await bucket.on_connect()
    with suppress(ScopeNotFoundException):
        await bucket.collections().drop_scope(name)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let operations take no longer than durable ones must be allowed to take."""
    monkeypatch.setattr(plumbing, "PATIENCE", 1.6)
