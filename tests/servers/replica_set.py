"""A replica set of MongoDB whose primary can be lost."""

from __future__ import annotations

import random
import threading
import time
from asyncio import StreamReader
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import pytest
from pymongo.errors import PyMongoError

from tests.servers import once
from tests.servers.message import Read, chunk
from tests.servers.mongodb import MongoDBServer
from tests.servers.proxy import Proxy

_OPTIONS = ("--replSet", "rs0", "--oplogSize", "16")
_WITHIN = 60.0


class ReplicaSet:
    """
    Three servers of which one can be missing.

    :param stack: ends them
    """

    def __init__(self, stack: ExitStack) -> None:
        self._nodes = [MongoDBServer(stack, *_OPTIONS) for _ in range(3)]
        self._lost: MongoDBServer | None = None
        self._nodes[0].initiate(*self._nodes[1:])
        self.addresses = [node.address for node in self._nodes]
        self.url = url_of(self.addresses)

    @property
    def elections(self) -> int:
        """How often a primary was elected."""
        with self._primary().client() as client:
            return int(client.admin.command("replSetGetStatus")["term"])

    def proxy(self) -> Proxy:
        """Return a proxy before all nodes, whose clients do not find the way past it."""
        places = [address.split(":") for address in self.addresses]
        proxy = Proxy(*[(host, int(port)) for host, port in places])
        proxy.read = _translating(dict(zip(self.addresses, addresses_of(proxy), strict=True)))
        return proxy

    def step_down(self) -> None:
        """Let the primary be one no longer."""
        with self._primary().client() as client:
            client.admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=2, force=True)

    def kill_primary(self) -> None:
        """Kill the primary the hard way."""
        self._lost = self._primary()
        self._lost.kill()

    def restore(self) -> None:
        """Bring back the server that was killed, and wait until all are in step."""
        if self._lost is not None:
            self._lost.start()
            self._lost = None

        for _ in _tries():
            with suppress(PyMongoError):
                if all(state in ("PRIMARY", "SECONDARY") for state in self._states()):
                    return

    def _primary(self) -> MongoDBServer:
        nodes = (node for _ in _tries() for node in self._nodes if node is not self._lost)
        return next(node for node in nodes if node.is_primary())

    def _states(self) -> list[str]:
        with self._primary().client() as client:
            members = client.admin.command("replSetGetStatus")["members"]
            return [member["stateStr"] for member in members]


def addresses_of(proxy: Proxy) -> list[str]:
    """Return the addresses that a proxy listens on."""
    return [f"127.0.0.1:{port}" for port in proxy.ports]


def url_of(addresses: list[str]) -> str:
    """Return what clients of a replica set connect to."""
    return f"mongodb://{','.join(addresses)}/?replicaSet=rs0"


def _translating(names: dict[str, str]) -> Read:
    """Return what reads pieces and gives nodes other names, which are as long as theirs."""

    async def read(reader: StreamReader) -> bytes:
        piece = await chunk(reader)
        for node, name in names.items():
            assert len(node) == len(name)
            piece = piece.replace(node.encode(), name.encode())

        return piece

    return read


def _tries() -> Iterator[None]:
    deadline = time.monotonic() + _WITHIN
    while time.monotonic() < deadline:
        yield
        time.sleep(0.02)

    raise TimeoutError(f"The replica set is not in order after {_WITHIN:g} s.")


@contextmanager
def losing_primaries(replica_set: ReplicaSet, draw: random.Random) -> Iterator[None]:
    """Let the primary step down, or be killed and come back later, again and again meanwhile."""
    over = threading.Event()

    def lose() -> None:
        while not over.wait(draw.uniform(1.5, 6)):
            # it may have ceased to be the primary in just this moment
            with suppress(PyMongoError):
                if draw.random() < 0.6:
                    replica_set.step_down()
                else:
                    replica_set.kill_primary()

            over.wait(draw.uniform(0.5, 4))
            replica_set.restore()

    with ThreadPoolExecutor(1) as threads:
        losing = threads.submit(lose)
        try:
            yield
        finally:
            over.set()

        losing.result(2 * _WITHIN)


@contextmanager
def _running() -> Iterator[ReplicaSet]:
    with ExitStack() as stack:
        yield ReplicaSet(stack)


@pytest.fixture
def replica_set(request: pytest.FixtureRequest) -> ReplicaSet:
    """Three servers, all of them there."""
    found = once(request.config, _running)
    found.restore()
    return found
