"""A transaction is announced before its entry, and ended for whoever has left it open."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import anyio.lowlevel
import pytest

from aflamingock import AuditState, Flamingock, LockOptions, TxStrategy, change
from aflamingock.exceptions import LockTimeoutError, SystemBusyError
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.kit import entries, entry, history, leave

MARKED = TxStrategy.TX_SEPARATE_WITH_MARKER


class AnnouncingTarget(SQLiteTargetSystem):
    """A target system whose transactions have numbers, and which tells what it is asked."""

    def __init__(self, id: str, path: Path) -> None:
        super().__init__(id, path)
        self.told: list[str] = []
        self.failures: list[Exception] = []
        self._count = 0

    async def announce(self) -> str:
        await anyio.lowlevel.checkpoint()
        self._count += 1
        return f"number {self._count}"

    def announced(self, identity: str | None) -> AbstractAsyncContextManager[aiosqlite.Connection]:
        return self._told(f"run {identity}")

    @asynccontextmanager
    async def _told(self, what: str) -> AsyncIterator[aiosqlite.Connection]:
        self.told.append(what)
        async with self.transaction() as session:
            yield session

    async def end_orphan(self, identity: str) -> None:
        await anyio.lowlevel.checkpoint()
        self.told.append(f"end {identity}")
        if self.failures:
            raise self.failures.pop(0)


@pytest.fixture
def target(tmp_path: Path) -> AnnouncingTarget:
    return AnnouncingTarget("shop", tmp_path / "shop.db")


def built(store: MemoryAuditStore, target: AnnouncingTarget, ids: str = "ab") -> Flamingock:
    changes = [transactional(id) for id in ids] + [transactional("z", transactional=False)]
    return Flamingock(changes=changes, audit_store=store, target_systems=[target])


def transactional(id: str, **options: Any) -> type:
    class Step:
        async def execute(self, db: aiosqlite.Connection) -> None:
            await db.execute("SELECT 1")

        async def rollback(self, db: aiosqlite.Connection) -> None:
            await db.execute("SELECT 1")

    return change(id=id, author="tests", order=id, target_system="shop", **options)(Step)


async def leave_open(store: MemoryAuditStore, **values: Any) -> None:
    given: dict[str, Any] = {"tx_strategy": MARKED, "metadata": {"transactionId": "left"}}
    given |= {"change_id": "a", "state": AuditState.STARTED, "target_system_id": "shop"} | values
    await leave(store, entry(given.pop("change_id"), given.pop("state"), **given))


async def test_the_opening_entry_carries_the_identity(
    store: MemoryAuditStore, target: AnnouncingTarget
) -> None:
    flamingock = built(store, target)
    await flamingock.run()
    await flamingock.undo(change_id="a")

    told = [
        (one.change_id, one.state.value, one.metadata["transactionId"])
        for one in await entries(store)
        if "transactionId" in one.metadata
    ]
    assert told == [
        ("a", "STARTED", "number 1"),
        ("b", "STARTED", "number 2"),
        ("a", "ROLLBACK_STARTED", "number 3"),
    ]
    assert target.told == ["run number 1", "run number 2", "run number 3"]


async def test_metadata_that_is_too_large_does_not_crowd_it_out(
    store: MemoryAuditStore, target: AnnouncingTarget
) -> None:
    big = transactional("a", metadata={f"key {number}": "x" * 100 for number in range(1000)})
    await Flamingock(changes=[big], audit_store=store, target_systems=[target]).run()

    assert (await entries(store))[0].metadata["transactionId"] == "number 1"


async def test_what_was_left_open_is_ended_before_anything_else(
    store: MemoryAuditStore, target: AnnouncingTarget
) -> None:
    await leave_open(store)

    await built(store, target).run()

    assert target.told == ["end left", "run number 1", "run number 2"]
    assert (await history(store))[:3] == ["a STARTED", "a STARTED", "a APPLIED"]


async def test_so_it_is_before_an_undo(store: MemoryAuditStore, target: AnnouncingTarget) -> None:
    flamingock = built(store, target)
    await flamingock.run()
    await leave_open(store, state=AuditState.ROLLBACK_STARTED)
    target.told.clear()

    await flamingock.undo(change_id="a")

    assert target.told == ["end left", "run number 3"]


@pytest.mark.parametrize(
    "values",
    [
        {"metadata": {}},
        {"metadata": {"transactionId": 7}},
        {"state": AuditState.FAILED},
        {"state": AuditState.ROLLED_BACK},
        {"target_system_id": "gone", "change_id": "y"},
        {"tx_strategy": TxStrategy.NON_TX, "change_id": "y"},
    ],
)
async def test_nothing_else_is_ended(
    store: MemoryAuditStore, target: AnnouncingTarget, values: dict[str, Any]
) -> None:
    await leave_open(store, **values)

    await built(store, target).run()

    assert target.told == ["run number 1", "run number 2"]


async def test_it_is_ended_as_soon_as_the_target_system_answers(
    store: MemoryAuditStore, target: AnnouncingTarget
) -> None:
    target.failures = [SystemBusyError("an election"), SystemBusyError("an election")]
    await leave_open(store)

    await built(store, target).run()

    assert target.told[:4] == ["end left", "end left", "end left", "run number 1"]


async def test_one_that_cannot_be_ended_is_warned_of_and_left_to_the_database(
    store: MemoryAuditStore, target: AnnouncingTarget, caplog: pytest.LogCaptureFixture
) -> None:
    target.failures = [ValueError("not allowed")]
    await leave_open(store)

    with caplog.at_level(logging.WARNING):
        await built(store, target).run()

    assert "'a' was left in could not be ended" in caplog.text
    assert "ValueError: not allowed" in caplog.text
    assert target.told == ["end left", "run number 1", "run number 2"]


async def test_the_wait_for_it_is_bounded(
    store: MemoryAuditStore, target: AnnouncingTarget
) -> None:
    target.failures = [SystemBusyError("an election")] * 1000
    await leave_open(store)
    flamingock = Flamingock(
        changes=[transactional("a")],
        audit_store=store,
        target_systems=[target],
        lock=LockOptions(timeout=0.2),
    )

    with pytest.raises(LockTimeoutError, match="election"):
        await flamingock.run()
