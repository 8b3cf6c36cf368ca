"""A server that is silent, or away for a while, during a run."""

from __future__ import annotations

from contextlib import suppress

import anyio
import anyio.to_thread
import pytest

from aflamingock import LockLostError, RunStatus
from tests.network.kit import Mode, applied, service
from tests.network.system import System
from tests.processes.kit import check_log
from tests.servers.proxy import Proxy, silent_answer, silent_call

AWAY = 5.0
BOUND = 60.0
"""How long anything may take: the limits of the drivers and of the lease, and a busy machine."""


async def settle(system: System, proxy: Proxy, changes: list[type], mode: Mode) -> None:
    """Run once more without faults, and make sure that all is done, and was done once."""
    proxy.heal()
    with anyio.fail_after(BOUND):
        async with service(system, proxy, changes, mode=mode) as flamingock:
            await flamingock.run()

    log = await system.log("default")
    check_log(log)
    assert applied(log) == {"a", "b"}
    assert await system.effects("default") == {"a": 1, "b": 1}


@pytest.mark.parametrize(
    ("empty_system", "mode", "fault"),
    [
        ("postgresql", "shared", silent_answer),
        ("mariadb", "separate", silent_call),
        ("pymongo", "shared", silent_call),
        ("motor", "separate", silent_answer),
        ("dynamodb", "shared", silent_answer),
        ("couchbase", "shared", silent_answer),
    ],
    indirect=["empty_system"],
)
async def test_silence_ends_a_run_or_is_overcome(system, proxy, mode, fault):
    changes = [system.change(id) for id in "ab"]
    proxy.plan(system.commit, fault)
    with anyio.fail_after(BOUND):
        async with service(system, proxy, changes, mode=mode, ttl=3) as flamingock:
            with suppress(LockLostError):
                assert (await flamingock.run()).status is RunStatus.SUCCESS

    await settle(system, proxy, changes, mode)


async def test_a_server_that_is_away_for_a_while_is_waited_for(system, proxy):
    async def leave():
        await anyio.to_thread.run_sync(proxy.refuse)
        tasks.start_soon(come_back)

    async def come_back():
        await anyio.sleep(AWAY)
        await anyio.to_thread.run_sync(proxy.accept)

    first = system.change("a", transactional=False, pause=leave)
    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(BOUND):
            async with service(system, proxy, [first, system.change("b")], ttl=15) as flamingock:
                assert (await flamingock.run()).status is RunStatus.SUCCESS

    log = await system.log("default")
    check_log(log)
    assert await system.effects("default") == {"a": 1, "b": 1}
