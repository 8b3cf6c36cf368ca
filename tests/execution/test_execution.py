"""Changes that fail: what is raised, recorded, told and taken back."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

import anyio
import pytest

from aflamingock import (
    ChangeContext,
    ChangeFailed,
    ChangeFailedError,
    ChangeStatus,
    Event,
    Flamingock,
    Recovery,
    RunStatus,
    TxStrategy,
    change,
    run_changes,
)
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.targets.plain import NonTransactionalTargetSystem
from tests.kit import entries, failure, history, raising, step, steps


class TestWithoutTransaction:
    async def test_the_original_error_is_the_cause_and_everything_names_it(
        self, store: MemoryAuditStore, done: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        error = ValueError("the broker said no")
        failed = await failure(
            [step("a", done), step("b", done, body=raising(error)), step("c", done)],
            audit_store=store,
        )
        assert failed.__cause__ is error
        assert failed.change_id == "b"
        assert failed.file is not None
        assert "'b'" in str(failed)
        assert "ValueError: the broker said no" in str(failed)
        assert failed.file in str(failed)

        report = failed.report
        assert report is not None
        assert report.status is RunStatus.FAILED
        assert [one.status for one in report.changes()] == [
            *(ChangeStatus.APPLIED, ChangeStatus.ROLLED_BACK, ChangeStatus.NOT_REACHED)
        ]
        (found,) = report.with_status(ChangeStatus.ROLLED_BACK)
        assert (found.error, found.file) == ("ValueError: the broker said no", failed.file)
        assert "the broker said no" in str(report)
        (told,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert "'b'" in told.getMessage()
        assert "the broker said no" in told.getMessage()

    async def test_it_is_rolled_back(self, store: MemoryAuditStore, done: list[str]) -> None:
        changes = [step("a", done, body=raising(ValueError("no"))), step("b", done)]
        await failure(changes, audit_store=store)
        assert done == ["a", "not a"]
        states = ["a STARTED", "a FAILED", "a ROLLBACK_STARTED", "a ROLLED_BACK"]
        assert await history(store) == states
        trace = (await entries(store))[1].error_trace
        assert trace is not None
        assert trace.endswith("ValueError: no")
        assert "kit.py" in trace

    async def test_the_next_run_applies_what_was_rolled_back(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        await failure([step("a", done, body=raising(ValueError("no")))], audit_store=store)
        await run_changes(steps("a", done), audit_store=store)
        assert done == ["a", "not a", "a"]
        assert [entry.attempt for entry in await entries(store)] == [1, 1, 1, 1, 2, 2, 0]

    async def test_without_rollback_it_stays_failed(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        changes = [step("a", done, body=raising(ValueError("no")), rollback=False)]
        failed = await failure(changes, audit_store=store)
        assert await history(store) == ["a STARTED", "a FAILED"]
        assert failed.report is not None
        assert [one.status for one in failed.report.changes()] == [ChangeStatus.FAILED]
        assert [issue.change_id for issue in await store.issues("default")] == ["a"]

    async def test_what_may_be_tried_again_is_no_issue(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        given: dict[str, Any] = {"rollback": False, "recovery": Recovery.ALWAYS_RETRY}
        await failure([step("a", done, body=raising(ValueError("no")), **given)], audit_store=store)
        assert list(await store.issues("default")) == []
        await run_changes([step("a", done, **given)], audit_store=store)
        assert done == ["a", "a"]

    async def test_a_rollback_that_fails_as_well_is_noted_on_the_error(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        error = ValueError("no")
        bad = step("a", done, body=raising(error), rollback=raising(OSError("stuck")))
        failed = await failure([bad], audit_store=store)
        assert failed.__cause__ is error
        assert any("OSError: stuck" in note for note in error.__notes__)
        assert await history(store) == [
            *("a STARTED", "a FAILED", "a ROLLBACK_STARTED", "a ROLLBACK_FAILED")
        ]
        assert "stuck" in ((await entries(store))[-1].error_trace or "")
        assert failed.report is not None
        (told,) = failed.report.changes()
        assert (told.status, told.error) == (ChangeStatus.ROLLBACK_FAILED, "ValueError: no")
        assert [issue.change_id for issue in await store.issues("default")] == ["a"]

    @pytest.mark.parametrize(
        ("error", "cause"),
        [(SystemExit(3), RuntimeError), (anyio.EndOfStream(), anyio.EndOfStream)],
    )
    async def test_sys_exit_is_a_failure_like_any_other(
        self, store: MemoryAuditStore, done: list[str], error: BaseException, cause: type
    ) -> None:
        failed = await failure([step("a", done, body=raising(error))], audit_store=store)
        assert isinstance(failed.__cause__, cause)
        assert (await history(store))[-1] == "a ROLLED_BACK"

    async def test_sys_exit_in_a_plain_function_is_a_failure(self, store: MemoryAuditStore) -> None:
        @change(id="a", author="tests", order="1")
        class Exits:
            def execute(self) -> None:
                sys.exit("enough")

        failed = await failure([Exits], audit_store=store)
        assert isinstance(failed.__cause__, RuntimeError)
        assert "sys.exit('enough')" in str(failed)

    async def test_an_error_of_ours_that_a_change_raises_is_its_own(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        inner = MemoryAuditStore()

        async def body() -> None:
            await run_changes([step("x", done, body=raising(KeyError("x")))], audit_store=inner)

        failed = await failure([step("a", done, body=body)], audit_store=store)
        assert isinstance(failed.__cause__, ChangeFailedError)
        assert failed.__cause__.change_id == "x"
        assert done == ["a", "x", "not x", "not a"]

    async def test_a_change_that_takes_too_long_has_failed(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        slow = step("a", done, body=anyio.sleep_forever, timeout=0.05)
        failed = await failure([slow], audit_store=store)
        assert isinstance(failed.__cause__, TimeoutError)
        assert "0.05 s" in str(failed)
        assert done == ["a", "not a"]

    async def test_plain_functions_run_in_a_thread(self, store: MemoryAuditStore) -> None:
        seen: list[object] = []

        @change(id="a", author="tests", order="1")
        class Plain:
            def execute(self, ctx: ChangeContext, name: str) -> None:
                seen.extend([ctx.change_id, name, threading.current_thread()])
                raise ValueError("no")

            def rollback(self) -> None:
                seen.append("rolled back")

        await failure([Plain], audit_store=store, dependencies={"name": "shop"})
        assert seen[:2] == ["a", "shop"]
        assert seen[2] is not threading.main_thread()
        assert seen[3:] == ["rolled back"]


async def test_a_listener_that_raises_disturbs_nothing(
    store: MemoryAuditStore, done: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    def listener(event: Event) -> None:
        raise LookupError("the progress bar is broken")

    report = await run_changes(steps("ab", done), audit_store=store, listeners=[(Event, listener)])
    assert report.status is RunStatus.SUCCESS
    assert [one.status for one in report.changes()] == [ChangeStatus.APPLIED] * 2
    warnings = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(warnings) == 1


async def test_listeners_hear_of_a_failure(store: MemoryAuditStore, done: list[str]) -> None:
    heard: list[ChangeFailed] = []
    error = ValueError("no")
    flamingock = Flamingock(changes=[step("a", done, body=raising(error))], audit_store=store)
    flamingock.on(ChangeFailed, heard.append)
    with pytest.raises(ChangeFailedError):
        await flamingock.run()

    assert [(event.change_id, event.error) for event in heard] == [("a", error)]
    assert flamingock.progress.state == "failed"


async def test_a_plain_target_lends_its_objects(store: MemoryAuditStore) -> None:
    topics: list[str] = []

    class Broker:
        def create(self, topic: str) -> None:
            topics.append(topic)

    @change(id="a", author="tests", order="1", target_system="kafka")
    class CreateTopic:
        async def execute(self, broker: Broker) -> None:
            broker.create("orders")

    CreateTopic.execute.__annotations__["broker"] = Broker
    kafka = NonTransactionalTargetSystem("kafka", broker=Broker())
    await run_changes([CreateTopic], audit_store=store, target_systems=[kafka])
    assert topics == ["orders"]
    (first, *_) = await entries(store)
    assert (first.target_system_id, first.tx_strategy) == ("kafka", TxStrategy.NON_TX)
