"""A transaction that the server of MongoDB ends after its time is FAILED, and says why."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio.to_thread
import pytest
from pymongo import MongoClient

from aflamingock import AuditState, ChangeFailedError, Flamingock, TxStrategy, change
from aflamingock.abc import AuditStore
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.mongodb import MongoDBAuditStore
from aflamingock.targets.mongodb import MongoDBTargetSystem
from tests.kit import entries

LIMIT = "transactionLifetimeLimitSeconds"


@pytest.fixture
def short_limit(mongodb_url: str) -> Iterator[None]:
    """Let the server end transactions after a second."""
    with MongoClient[dict[str, Any]](mongodb_url) as client:
        what: dict[str, Any] = {LIMIT: 1}
        before = client.admin.command("getParameter", 1, **what)[LIMIT]
        client.admin.command("setParameter", 1, **what)
        try:
            yield
        finally:
            client.admin.command("setParameter", 1, **(what | {LIMIT: before}))


def wait_for_end(url: str) -> None:
    """Wait until the server has ended the one transaction that there is."""
    with MongoClient[dict[str, Any]](url) as client:
        deadline = time.monotonic() + 30
        while client.admin.command("serverStatus")["transactions"]["currentOpen"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def waiting(url: str, calls: list[str], *, writes_on: bool) -> type:
    """Return a change that stays in its transaction until the server has ended it."""

    class Waiting:
        async def execute(self, db: Any, session: Any) -> None:
            calls.append("a")
            await db.t.insert_one({"_id": 1}, session=session)
            await anyio.to_thread.run_sync(wait_for_end, url)
            if writes_on:
                await db.t.insert_one({"_id": 2}, session=session)

        async def rollback(self, db: Any, session: Any) -> None:
            calls.append("not a")

    return change(id="a", author="tests", order="1", target_system="data")(Waiting)


@pytest.mark.usefixtures("short_limit")
@pytest.mark.parametrize("writes_on", [True, False])
@pytest.mark.parametrize("strategy", [TxStrategy.TX_SHARED, TxStrategy.TX_SEPARATE_WITH_MARKER])
async def test_it_is_failed_with_the_hint_and_not_made_again(
    connect: Callable[..., Any],
    mongodb_url: str,
    mongodb_name: str,
    strategy: TxStrategy,
    writes_on: bool,
) -> None:
    client, calls = connect(mongodb_url), list[str]()
    target = MongoDBTargetSystem("data", client, mongodb_name)
    store: AuditStore[Any] = (
        MongoDBAuditStore.from_target_system(target)
        if strategy is TxStrategy.TX_SHARED
        else MemoryAuditStore()
    )
    flamingock = Flamingock(
        changes=[waiting(mongodb_url, calls, writes_on=writes_on)],
        audit_store=store,
        target_systems=[target],
    )

    with pytest.raises(ChangeFailedError):
        await flamingock.run()

    assert calls == ["a"]
    *_, last = await entries(store)
    assert (last.state, last.tx_strategy) == (AuditState.FAILED, strategy)
    assert LIMIT in (last.error_trace or "")
    assert "transactional=False" in (last.error_trace or "")
    assert await client[mongodb_name].t.count_documents({}) == 0
