"""A request was carried out by the server, and its answer has not come through."""

from __future__ import annotations

from typing import Any

import pytest

from aflamingock import RunReport, RunStatus
from tests.network.kit import Mode, service, words
from tests.network.system import System
from tests.processes.kit import check_log
from tests.servers.proxy import Proxy, lost_answer, lost_call

IN_ORDER = ["a STARTED", "a APPLIED", "b STARTED", "b APPLIED"]

# In all stores the record of a lease is JSON, in some within JSON or a literal.
TAKEN = r"released\W+false"
RELEASED = r"released\W+true"


async def run(system: System, proxy: Proxy, *, mode: Mode = "shared", **options: Any) -> RunReport:
    changes = [system.change(id, **options) for id in "ab"]
    async with service(system, proxy, changes, mode=mode) as flamingock:
        return await flamingock.run()


async def check(system: System) -> None:
    found = await system.log("default")
    check_log(found)
    assert words(found) == IN_ORDER
    assert await system.effects("default") == {"a": 1, "b": 1}


async def test_of_an_append_it_is_looked_up(system, proxy):
    proxy.plan("STARTED", lost_answer, lost_answer)
    report = await run(system, proxy, transactional=False)
    assert report.status is RunStatus.SUCCESS
    assert len(proxy.lost) == 2
    await check(system)


async def test_of_the_lease_it_is_looked_up(system, proxy):
    proxy.plan(TAKEN, lost_answer)
    proxy.plan(RELEASED, lost_answer)
    report = await run(system, proxy)
    assert report.status is RunStatus.SUCCESS
    assert len(proxy.lost) == 2
    await check(system)
    async with service(system, None, []) as flamingock:
        assert (await flamingock.lock.status()).state == "free"


async def test_of_a_commit_the_log_resolves_it(system, proxy):
    system.lose_commit(proxy)
    report = await run(system, proxy)
    assert report.status is RunStatus.SUCCESS
    assert len(proxy.lost) == 1
    await check(system)


async def test_of_a_commit_and_the_claim_the_marker_resolves_it(system, proxy):
    system.lose_commit(proxy)
    proxy.plan(system.claim, lost_answer, lost_call)
    report = await run(system, proxy, mode="separate")
    assert report.status is RunStatus.SUCCESS
    assert len(proxy.lost) == 2
    await check(system)


@pytest.mark.parametrize("empty_system", ["mariadb"], indirect=True)
@pytest.mark.parametrize("mode", ["shared", "separate"])
async def test_what_breaks_after_a_commit_is_no_failure_of_the_change(system, proxy, mode):
    # with what a connection of MariaDB is restored before it goes back to its pool
    proxy.plan("SET SESSION TRANSACTION", lost_call)
    report = await run(system, proxy, mode=mode)
    assert report.status is RunStatus.SUCCESS
    await check(system)
