"""Connections that died in a pool, as at a restart of the server, do not make a start fail."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from blockbuster import BlockBuster
from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import AsyncConnection

from aflamingock import Flamingock, RunStatus, change
from aflamingock._states import MarkerOutcome
from aflamingock.exceptions import SystemBusyError
from aflamingock.stores.sql import SQLAuditStore
from aflamingock.targets.sql import SQLTargetSystem
from tests.servers import sql
from tests.servers.sql import SERVERS, query, url_of


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest, blockbuster: BlockBuster) -> URL:
    sql.excuse_drivers(blockbuster)
    return url_of(request.param, request)


async def kill_connections(url: URL) -> int:
    """End all connections to the database, as a restart does; say how many there were."""
    if url.get_backend_name() == "postgresql":
        found = await query(
            url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        return len(found)

    found = await query(
        url,
        "SELECT id FROM information_schema.processlist "
        "WHERE db = DATABASE() AND id <> CONNECTION_ID()",
    )
    for (number,) in found:
        await query(url, f"KILL {number}")

    return len(found)


def insertion(id: str, **options: Any) -> type:
    class Insertion:
        async def execute(self, db: AsyncConnection) -> None:
            await db.execute(text("INSERT INTO t VALUES (:id)"), {"id": id})

    return change(id=id, author="tests", order=id, target_system="shop", **options)(Insertion)


async def busy(target: SQLTargetSystem) -> None:
    async with target.engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        await anyio.sleep(0.05)


async def test_a_run_does_not_meet_them(url: URL) -> None:
    await query(url, "CREATE TABLE t (id VARCHAR(9) PRIMARY KEY)")
    target = SQLTargetSystem.from_url("shop", url)
    store = SQLAuditStore.from_target_system(target)

    def build(ids: str) -> Flamingock:
        changes = [insertion(id, transactional=id in "ac") for id in ids]
        return Flamingock(changes=changes, audit_store=store, target_systems=[target])

    # who keeps both open keeps their pools
    async with target, store:
        await build("a").run()
        for ids in ("abc", "abcd"):
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(busy, target)
                    group.start_soon(store.last, "default", 1)

            assert await kill_connections(url) >= 4
            assert (await build(ids).run()).status is RunStatus.SUCCESS

    assert len(await query(url, "SELECT id FROM t")) == 4


@pytest.mark.parametrize("reading", ["health", "log", "schema", "lock"])
async def test_no_reading_meets_them(url: URL, reading: str) -> None:
    async with SQLAuditStore.from_url(url) as store:
        await store.create()
        flamingock = Flamingock(changes=[], audit_store=store)
        assert await kill_connections(url)
        match reading:
            case "health":
                assert (await flamingock.health())["status"] == "up"
            case "schema":
                assert await store.verify_schema() == []
            case "lock":
                assert (await flamingock.lock.status()).state == "free"
            case _:
                assert list(await store.last("default", 1)) == []


async def test_a_claim_that_met_one_is_safe_to_try_again(url: URL) -> None:
    async with SQLTargetSystem.from_url("shop", url) as target:
        assert await target.claim_marker("k", "c") is MarkerOutcome.ABORTED
        for call in (lambda: target.claim_marker("k", "c"), lambda: target.remove_marker("k")):
            assert await kill_connections(url)
            with pytest.raises(SystemBusyError, match="nothing was done"):
                await call()

            await call()
