"""Runs: what is read and written, how often, and what the log says in the end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from aflamingock import (
    AuditStoreError,
    ChangeStatus,
    RunStatus,
    UnknownOutcomeError,
    run_changes,
)
from aflamingock.abc import AuditStore
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore
from tests.change_files import name_of, package, text_of, write
from tests.kit import (
    FailingStore,
    LosingStore,
    calls_of,
    entries,
    history,
    lease_of,
    step,
    steps,
    take_lease,
)

__all__ = ["package"]


@pytest.fixture
def thousand(package: Path) -> Path:
    """A package of a thousand changes."""
    write(package, {f"_{n:04}__c.py": text_of(f"c{n}") for n in range(1000)})
    return package


class TestApplying:
    async def test_changes_run_in_order_and_the_log_says_so(
        self, any_store: AuditStore[Any], done: list[str]
    ) -> None:
        report = await run_changes(steps("bca", done), audit_store=any_store)

        assert done == ["a", "b", "c"]
        assert await history(any_store) == [
            *("a STARTED", "a APPLIED", "b STARTED", "b APPLIED", "c STARTED", "c APPLIED"),
            "CHECKPOINT",
        ]
        assert report.status is RunStatus.SUCCESS
        assert [change.change_id for change in report.applied] == ["a", "b", "c"]

    async def test_the_order_is_compared_as_text(self, done: list[str]) -> None:
        changes = [step(f"c{order}", done, order=order) for order in ("10", "9", "09", "1")]
        await run_changes(changes, audit_store=MemoryAuditStore())
        assert done == ["c09", "c1", "c10", "c9"]

    async def test_entries_are_a_chain_without_gaps_under_one_epoch(
        self, any_store: AuditStore[Any], done: list[str]
    ) -> None:
        await run_changes(steps("abc", done), audit_store=any_store)
        log = await entries(any_store)
        assert [entry.sequence for entry in log] == [1, 2, 3, 4, 5, 6, 7]
        assert {entry.epoch for entry in log} == {1}
        digests = ["", *(entry.digest for entry in log)]
        assert all(
            entry.compute_digest(before) == entry.digest
            for before, entry in zip(digests, log, strict=False)
        )

    @pytest.mark.parametrize("number", [1, 2, 7])
    async def test_changes_without_transactions_need_one_append_more_than_they_are(
        self, any_store: AuditStore[Any], done: list[str], number: int
    ) -> None:
        calls = calls_of(any_store)
        await run_changes(steps("abcdefg"[:number], done), audit_store=any_store)
        assert calls["append"] == number + 1

    async def test_the_lease_is_given_back(
        self, any_store: AuditStore[Any], done: list[str]
    ) -> None:
        await run_changes(steps("a", done), audit_store=any_store)
        lease = await lease_of(any_store)
        assert lease is not None
        assert lease.released

    async def test_only_what_is_new_is_applied(
        self, any_store: AuditStore[Any], done: list[str]
    ) -> None:
        await run_changes(steps("ab", done), audit_store=any_store)
        report = await run_changes(steps("abc", done), audit_store=any_store)
        assert done == ["a", "b", "c"]
        assert [change.status for change in report.changes()] == [
            *(ChangeStatus.ALREADY_APPLIED, ChangeStatus.ALREADY_APPLIED),
            ChangeStatus.APPLIED,
        ]
        assert [entry.epoch for entry in await entries(any_store)][-3:] == [2, 2, 2]

    async def test_a_change_that_is_to_run_always_runs_in_every_run(
        self, any_store: AuditStore[Any], done: list[str]
    ) -> None:
        changes = [step("a", done), step("b", done, run_always=True)]
        for _ in range(3):
            report = await run_changes(changes, audit_store=any_store)
            assert report.status is RunStatus.SUCCESS

        assert done == ["a", "b", "b", "b"]
        assert "CHECKPOINT" not in await history(any_store)
        attempts = [entry.attempt for entry in await entries(any_store) if entry.change_id == "b"]
        assert attempts == [1, 1, 2, 2, 3, 3]


class TestNothingToDo:
    async def test_one_read_no_lease_no_write_and_no_import(self, thousand: Path) -> None:
        log = thousand.parent.parent / "audit.db"
        first = await run_changes(name_of(thousand), audit_store=SQLiteAuditStore(log))
        assert len(first.applied) == 1000
        imported = {name for name in sys.modules if name.startswith(name_of(thousand))}
        assert len(imported) == 1001
        for name in imported:
            del sys.modules[name]

        store = SQLiteAuditStore(log)
        calls = calls_of(store)
        report = await run_changes(name_of(thousand), audit_store=store)

        assert report.status is RunStatus.NOTHING_TO_DO
        assert calls == {"last": 1}
        assert not any(name.startswith(name_of(thousand)) for name in sys.modules)

    async def test_the_next_start_writes_nothing(
        self, any_store: AuditStore[Any], done: list[str]
    ) -> None:
        await run_changes(steps("ab", done), audit_store=any_store)
        before = await entries(any_store)
        calls = calls_of(any_store)
        report = await run_changes(steps("ab", done), audit_store=any_store)
        assert report.status is RunStatus.NOTHING_TO_DO
        assert calls == {"last": 1}
        assert await entries(any_store) == before

    async def test_another_pipeline_that_is_applied_leaves_its_checkpoint(
        self, any_store: AuditStore[Any], done: list[str]
    ) -> None:
        await run_changes(steps("ab", done), audit_store=any_store)
        one = await run_changes(steps("b", done), audit_store=any_store)
        assert one.status is RunStatus.NOTHING_TO_DO
        assert (await history(any_store))[-2:] == ["CHECKPOINT", "CHECKPOINT"]

        calls = calls_of(any_store)
        await run_changes(steps("b", done), audit_store=any_store)
        await run_changes(steps("ab", done), audit_store=any_store)
        assert calls == {"last": 2}

    async def test_a_checkpoint_is_not_waited_for(self, done: list[str]) -> None:
        store = MemoryAuditStore()
        await run_changes(steps("ab", done), audit_store=store)
        await take_lease(store)
        report = await run_changes(steps("b", done), audit_store=store)
        assert report.status is RunStatus.NOTHING_TO_DO
        assert (await history(store)).count("CHECKPOINT") == 1

    async def test_no_change_at_all_is_nothing_to_do(self, tmp_path: Path) -> None:
        store = MemoryAuditStore()
        report = await run_changes(tmp_path, audit_store=store)
        assert report.status is RunStatus.NOTHING_TO_DO
        assert await entries(store) == []


class TestTheStore:
    async def test_a_change_does_not_run_if_its_start_cannot_be_written(
        self, done: list[str]
    ) -> None:
        store = FailingStore(AuditStoreError("The disk is full."))
        with pytest.raises(AuditStoreError, match="disk is full") as caught:
            await run_changes(steps("ab", done), audit_store=store)

        assert done == []
        assert caught.value.report is not None
        assert caught.value.report.status is RunStatus.FAILED
        assert {change.status for change in caught.value.report.changes()} == {
            ChangeStatus.NOT_REACHED
        }

    @pytest.mark.parametrize("kind", [FailingStore, LosingStore])
    async def test_a_lost_answer_to_an_append_is_looked_up(
        self, done: list[str], kind: type[FailingStore]
    ) -> None:
        store = kind(UnknownOutcomeError("no answer"), None, UnknownOutcomeError("no answer"))
        await run_changes(steps("ab", done), audit_store=store)
        assert done == ["a", "b"]
        assert await history(store) == [
            *("a STARTED", "a APPLIED", "b STARTED", "b APPLIED"),
            "CHECKPOINT",
        ]

    async def test_an_applied_change_whose_end_cannot_be_written_is_in_doubt(
        self, done: list[str]
    ) -> None:
        store = FailingStore(None, AuditStoreError("The disk is full."))
        with pytest.raises(AuditStoreError, match="disk is full") as caught:
            await run_changes(steps("ab", done), audit_store=store)

        assert done == ["a"]
        assert await history(store) == ["a STARTED"]
        assert caught.value.report is not None
        assert [change.status for change in caught.value.report.changes()] == [
            *(ChangeStatus.IN_DOUBT, ChangeStatus.NOT_REACHED)
        ]

    async def test_services_in_one_store_know_nothing_of_each_other(
        self, any_store: AuditStore[Any], done: list[str]
    ) -> None:
        await run_changes(steps("a", done), audit_store=any_store, service="shop")
        await run_changes(steps("a", done), audit_store=any_store, service="bank")
        assert done == ["a", "a"]
        assert await history(any_store, "shop") == await history(any_store, "bank")
