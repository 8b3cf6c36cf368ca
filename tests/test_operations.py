"""What an operator does: read the log, resolve issues, look at the lease and free it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from aflamingock import (
    AuditState,
    AuditType,
    ChangeFailedError,
    ConfigurationError,
    Flamingock,
    IssueStatus,
    LockError,
    LockLostError,
    LockOptions,
    LockTimeoutError,
    Recovery,
    Resolution,
    RunStatus,
    TxStrategy,
)
from aflamingock._records import Record
from aflamingock.abc import AuditStore
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore
from tests.kit import (
    WRITES,
    calls_of,
    entries,
    entry,
    history,
    lease_of,
    leave,
    raising,
    step,
    steps,
    take_lease,
)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AuditStore[Any]:
    return MemoryAuditStore() if request.param == "memory" else SQLiteAuditStore(tmp_path / "a.db")


def flamingock(store: AuditStore[Any], *changes: type, **options: Any) -> Flamingock:
    return Flamingock(changes=list(changes) or None, audit_store=store, **options)


async def failed(store: AuditStore[Any], done: list[str]) -> Flamingock:
    """Return a Flamingock of which one change needs a person."""
    bad = step("a", done, body=raising(ValueError("no")), rollback=False)
    made = flamingock(store, bad, step("b", done), metadata={"build": 7}, environment="test")
    with pytest.raises(ChangeFailedError):
        await made.run()

    return made


class TestEntries:
    async def test_all_of_them_oldest_first(self, store: AuditStore[Any], done: list[str]) -> None:
        made = flamingock(store, *steps("ab", done))
        await made.run()
        found = [one async for one in made.audit.entries()]
        assert found == await entries(store)
        assert [one.sequence for one in found] == [1, 2, 3, 4, 5]
        assert [one.sequence async for one in made.audit.entries(after=3)] == [4, 5]

    async def test_an_empty_log_has_none(self, store: AuditStore[Any]) -> None:
        calls = calls_of(store)
        assert [one async for one in flamingock(store).audit.entries()] == []
        assert not calls.keys() & WRITES


class TestIssues:
    async def test_they_tell_what_happened(self, store: AuditStore[Any], done: list[str]) -> None:
        made = await failed(store, done)
        (issue,) = await made.audit.issues()
        log = await entries(store)
        assert (issue.change_id, issue.state) == ("a", AuditState.FAILED)
        assert issue.issue_id == log[-1].entry_id
        assert "ValueError: no" in (issue.error or "")
        assert issue.status is IssueStatus.OPEN

    async def test_reading_them_writes_nothing(
        self, store: AuditStore[Any], done: list[str]
    ) -> None:
        made = await failed(store, done)
        calls = calls_of(store)
        await made.audit.issues()
        assert not calls.keys() & WRITES

    async def test_without_code_the_stored_recovery_counts(self, store: AuditStore[Any]) -> None:
        retried = {"recovery_strategy": Recovery.ALWAYS_RETRY}
        await leave(store, entry("a", AuditState.FAILED), entry("b", AuditState.FAILED, **retried))
        assert [one.change_id for one in await flamingock(store).audit.issues()] == ["a"]

    async def test_with_broken_code_the_stored_recovery_counts(
        self, store: AuditStore[Any], tmp_path: Path
    ) -> None:
        (tmp_path / "changes").mkdir()
        (tmp_path / "changes" / "_0001__broken.py").write_text("def (")
        await leave(store, entry("a", AuditState.FAILED))
        made = Flamingock(changes=tmp_path / "changes", audit_store=store)
        assert [one.change_id for one in await made.audit.issues()] == ["a"]
        written = await made.audit.resolve("a", Resolution.ROLLED_BACK)
        assert written.state is AuditState.MANUAL_MARKED_AS_ROLLED_BACK

    async def test_todays_recovery_counts_where_there_is_code(
        self, store: AuditStore[Any], done: list[str]
    ) -> None:
        await leave(store, entry("a", AuditState.FAILED))
        retried = flamingock(store, step("a", done, recovery=Recovery.ALWAYS_RETRY))
        assert await retried.audit.issues() == ()


class TestResolve:
    @pytest.mark.parametrize(
        ("resolution", "state", "expected"),
        [
            (Resolution.APPLIED, AuditState.MANUAL_MARKED_AS_APPLIED, ["a", "b"]),
            (Resolution.ROLLED_BACK, AuditState.MANUAL_MARKED_AS_ROLLED_BACK, ["a", "a", "b"]),
        ],
    )
    async def test_the_next_run_goes_by_the_answer(
        self,
        store: AuditStore[Any],
        done: list[str],
        resolution: Resolution,
        state: AuditState,
        expected: list[str],
    ) -> None:
        made = await failed(store, done)
        written = await made.audit.resolve("a", resolution, reason="looked", by="ann")
        assert (written.state, written.change_id) == (state, "a")
        assert (written.initiated_by, written.environment) == ("ann", "test")
        assert written.metadata["reason"] == "looked"
        assert written.error_trace is None
        assert await made.audit.issues() == ()
        assert (await entries(store))[-1] == written

        async with store:
            (kept,) = await store.issues("default")
        assert (kept.status, kept.resolution) == (IssueStatus.RESOLVED, resolution)
        assert (kept.resolved_by, kept.reason) == ("ann", "looked")
        assert kept.resolved_at is not None

        await flamingock(store, *steps("ab", done, rollback=False)).run()
        assert done == expected

    async def test_the_lease_is_given_back(self, store: AuditStore[Any], done: list[str]) -> None:
        made = await failed(store, done)
        written = await made.audit.resolve("a", Resolution.APPLIED)
        lease = await lease_of(store)
        assert lease is not None
        assert (lease.epoch, lease.released) == (written.epoch, True)

    @pytest.mark.parametrize("change_id", ["a", "x"])
    async def test_what_is_no_issue_is_refused(
        self, store: AuditStore[Any], done: list[str], change_id: str
    ) -> None:
        made = flamingock(store, *steps("a", done))
        await made.run()
        calls = calls_of(store)
        with pytest.raises(ConfigurationError, match=f"'{change_id}'"):
            await made.audit.resolve(change_id, Resolution.ROLLED_BACK)

        assert not calls.keys() & WRITES

    async def test_what_the_next_run_settles_by_itself_is_refused(
        self, store: AuditStore[Any]
    ) -> None:
        await leave(store, entry("a", AuditState.STARTED, tx_strategy=TxStrategy.TX_SHARED))
        with pytest.raises(ConfigurationError, match="no issue"):
            await flamingock(store).audit.resolve("a", Resolution.APPLIED)

    async def test_a_run_at_work_is_not_waited_for(
        self, store: AuditStore[Any], done: list[str]
    ) -> None:
        made = await failed(store, done)
        await take_lease(store, host="web-7")
        with pytest.raises(LockTimeoutError, match="web-7"):
            await made.audit.resolve("a", Resolution.APPLIED)

        assert (await history(store))[-1] == "a FAILED"


class TestLease:
    async def test_nobody_has_it(self, store: AuditStore[Any], done: list[str]) -> None:
        made = flamingock(store, *steps("a", done))
        calls = calls_of(store)
        assert (await made.lock.status()).state == "free"
        assert (await made.lock.release(force=True)).state == "free"
        assert not calls.keys() & WRITES
        await made.run()
        status = await made.lock.status()
        assert (status.state, status.held) == ("free", False)

    async def test_somebody_has_it(self, store: AuditStore[Any]) -> None:
        await take_lease(store, host="web-7")
        status = await flamingock(store).lock.status()
        assert status.lease is not None
        assert (status.state, status.held, status.lease.host) == ("held", True, "web-7")
        assert status.to_dict()["host"] == "web-7"

    async def test_it_is_not_taken_from_one_alive_without_force(
        self, store: AuditStore[Any]
    ) -> None:
        lease = await take_lease(store, host="web-7")
        with pytest.raises(LockError, match="web-7"):
            await flamingock(store).lock.release()

        standing = await lease_of(store)
        assert standing is not None
        assert standing.token == lease.token

    async def test_a_release_by_force_fences_the_run_at_work(
        self, store: AuditStore[Any], done: list[str]
    ) -> None:
        begun = anyio.Event()

        async def body() -> None:
            begun.set()
            await anyio.sleep(20)

        changes = [step("a", done), step("b", done, body=body)]
        made = flamingock(store, *changes, lock=LockOptions(ttl=1))
        errors: list[LockLostError] = []

        async def run() -> None:
            with pytest.raises(LockLostError) as caught:
                await made.run()

            errors.append(caught.value)

        async with store, anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await begun.wait()
            operator = flamingock(store)
            status = await operator.lock.release(force=True, reason="stuck", by="ann")

        assert status.held
        assert done == ["a", "b"]
        (error,) = errors
        assert error.report is not None
        assert error.report.status is RunStatus.LOCK_LOST
        assert await history(store) == ["a STARTED", "a APPLIED", "b STARTED", "LOCK_RELEASED"]
        released = (await entries(store))[-1]
        assert (released.type, released.epoch) == (AuditType.LOCK_RELEASED, 2)
        assert (released.initiated_by, released.metadata["reason"]) == ("ann", "stuck")
        lease = await lease_of(store)
        assert lease is not None
        assert (lease.epoch, lease.released) == (2, True)

    async def test_the_next_run_works_above_it(
        self, store: AuditStore[Any], done: list[str]
    ) -> None:
        await take_lease(store, epoch=5)
        made = flamingock(store, *steps("a", done))
        await made.lock.release(force=True)
        await made.run()
        assert done == ["a"]
        assert [one.epoch for one in await entries(store)] == [6, 7, 7, 7]

    async def test_a_run_that_works_above_it_by_now_is_left_in_peace(self, done: list[str]) -> None:
        class Overtaken(MemoryAuditStore):
            async def swap_record(self, current: Record | None, new: Record) -> bool:
                is_written = await super().swap_record(current, new)
                await flamingock(self.twin(), *steps("a", done)).run()
                return is_written

        store = Overtaken()
        await take_lease(store.twin(), epoch=5)
        await flamingock(store).lock.release(force=True)
        assert [one.epoch for one in await entries(store)] == [7, 7, 7]
