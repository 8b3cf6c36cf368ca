"""A replica set of MongoDB whose primary can be lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.servers import once
from tests.servers.mongodb import MongoDBServer

_OPTIONS = ("--replSet", "rs0", "--oplogSize", "16")


class ReplicaSet:
    """
    Three servers of which one can be missing.

    :param stack: ends them
    """

    def __init__(self, stack: ExitStack) -> None:
        self._nodes = [MongoDBServer(stack, *_OPTIONS) for _ in range(3)]
        self._lost: MongoDBServer | None = None
        self._nodes[0].initiate(*self._nodes[1:])
        addresses = ",".join(node.address for node in self._nodes)
        self.url = f"mongodb://{addresses}/?replicaSet=rs0"

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

        while not all(state in ("PRIMARY", "SECONDARY") for state in self._states()):
            time.sleep(0.05)

    def _primary(self) -> MongoDBServer:
        while True:
            for node in self._nodes:
                if node is not self._lost and node.is_primary():
                    return node

            time.sleep(0.02)

    def _states(self) -> list[str]:
        with self._primary().client() as client:
            members = client.admin.command("replSetGetStatus")["members"]
            return [member["stateStr"] for member in members]


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
