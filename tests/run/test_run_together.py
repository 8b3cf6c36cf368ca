"""Runs at the same time: of one process, of two, and within a service."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from aflamingock import (
    Flamingock,
    LockOptions,
    LockTimeoutError,
    RunStatus,
    run_changes,
)
from aflamingock.abc import AuditStore
from aflamingock.stores.memory import MemoryAuditStore
from tests.change_files import package
from tests.kit import (
    calls_of,
    entries,
    history,
    steps,
    take_lease,
)

__all__ = ["package"]


class TestTwoAtOnce:
    async def test_in_one_loop_each_change_runs_once(
        self, any_store: AuditStore[Any], done: list[str]
    ) -> None:
        reports = []

        async def run() -> None:
            options = LockOptions(retry_interval=0.05)
            changes = steps("abc", done, body=lambda: anyio.sleep(0.02))
            reports.append(await run_changes(changes, audit_store=any_store, lock=options))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(run)

        assert done == ["a", "b", "c"]
        statuses = sorted(report.status for report in reports)
        assert statuses == [RunStatus.NOTHING_TO_DO, RunStatus.NOTHING_TO_DO, RunStatus.SUCCESS]
        assert (await history(any_store)).count("CHECKPOINT") == 1

    async def test_a_single_flamingock_runs_twice_at_once(self, done: list[str]) -> None:
        flamingock = Flamingock(
            changes=steps("ab", done, body=lambda: anyio.sleep(0.02)),
            audit_store=MemoryAuditStore(),
            lock=LockOptions(retry_interval=0.05),
        )
        async with flamingock, anyio.create_task_group() as tasks:
            tasks.start_soon(flamingock.run)
            tasks.start_soon(flamingock.run)

        assert done == ["a", "b"]

    async def test_within_a_running_service(self, done: list[str]) -> None:
        served: list[int] = []

        async def serve() -> None:
            while True:
                served.append(len(served))
                await anyio.sleep(0.005)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            changes = steps("ab", done, body=lambda: anyio.sleep(0.02))
            await run_changes(changes, audit_store=MemoryAuditStore())
            tasks.cancel_scope.cancel()

        assert done == ["a", "b"]
        assert len(served) > 2

    async def test_who_waits_too_long_is_told_on_whom(self, done: list[str]) -> None:
        store = MemoryAuditStore()
        await take_lease(store, host="web-7")
        lock = LockOptions(timeout=0.05, retry_interval=0.01)
        with pytest.raises(LockTimeoutError, match="web-7") as caught:
            await run_changes(steps("a", done), audit_store=store, lock=lock)

        assert caught.value.holder is not None
        assert caught.value.holder.host == "web-7"
        assert done == []
        assert await entries(store) == []

    async def test_who_waits_too_long_may_skip(
        self, done: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        store = MemoryAuditStore()
        await take_lease(store)
        lock = LockOptions(timeout=0.05, retry_interval=0.01, on_timeout="skip")
        calls = calls_of(store)
        report = await run_changes(steps("a", done), audit_store=store, lock=lock)
        assert report.status is RunStatus.SKIPPED
        assert done == []
        assert calls["append"] == 0
        assert "skipped" in caplog.text


async def test_who_gets_the_lease_reads_the_log_before_it_acts(done: list[str]) -> None:
    """Another run does all the work between this one's plan and its lease."""
    appended: list[Any] = []

    class Late(MemoryAuditStore):
        async def read_record(self, key: str) -> Any:
            if not done:
                await run_changes(steps("abc", done), audit_store=self.twin())

            return await super().read_record(key)

        async def append(self, entries: Any, *, session: None = None) -> None:
            appended.extend(entries)
            await super().append(entries, session=session)

    report = await run_changes(steps("abc", done), audit_store=Late())

    assert done == ["a", "b", "c"]
    assert report.status is RunStatus.NOTHING_TO_DO
    assert not appended
