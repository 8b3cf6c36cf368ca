"""A primary has carried out a request and is one no longer, and its answer has not come through."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import anyio.to_thread
import pytest

from aflamingock import RunStatus
from tests.network.kit import Mode, applied, service
from tests.network.mongodb import ElectingSystem
from tests.processes.kit import check_log
from tests.servers.mongodb import excused
from tests.servers.proxy import Exchange, Fault, Proxy
from tests.servers.replica_set import ReplicaSet, replica_set

__all__ = ["excused", "replica_set"]


@pytest.fixture
async def electing(replica_set: ReplicaSet, excused: None) -> ElectingSystem:
    """Give a replica set with all that is written to."""
    # the driver itself would try again a write whose answer is lost, and hide it from the store
    system = ElectingSystem(replica_set, f"test_{uuid4().hex[:16]}", retryWrites=False)
    await system.prepare()
    return system


@pytest.fixture
def before_all(electing: ElectingSystem) -> Iterator[Proxy]:
    """A proxy before all nodes, without faults at first."""
    proxy = electing.proxy()
    yield proxy
    proxy.stop()


def lost_with_the_primary(replica_set: ReplicaSet) -> Fault:
    async def fault(exchange: Exchange) -> None:
        await exchange.lose_answer()
        await anyio.to_thread.run_sync(replica_set.step_down)
        exchange.cut()

    return fault


@pytest.mark.parametrize(
    ("request_of", "mode"),
    [
        ("released.*?false", "shared"),
        ("STARTED", "shared"),
        ("commitTransaction", "shared"),
        ("commitTransaction", "separate"),
    ],
)
async def test_what_was_answered_by_a_primary_that_is_lost_is_looked_up(
    electing: ElectingSystem,
    before_all: Proxy,
    replica_set: ReplicaSet,
    request_of: str,
    mode: Mode,
) -> None:
    before_all.plan(request_of, lost_with_the_primary(replica_set))
    before, changes = replica_set.elections, [electing.change(id) for id in "ab"]

    async with service(electing, before_all, changes, mode=mode, ttl=15) as flamingock:
        report = await flamingock.run()

    assert report.status is RunStatus.SUCCESS
    assert len(before_all.lost) == 1
    assert replica_set.elections > before
    log = await electing.log("default")
    check_log(log)
    assert applied(log) == {"a", "b"}
    assert await electing.effects("default") == {"a": 1, "b": 1}
