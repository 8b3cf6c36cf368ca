"""Stages: which run at the same time, and what one that fails or is blocked holds up."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from aflamingock import (
    AuditState,
    ChangeFailedError,
    ChangeStatus,
    Flamingock,
    ManualInterventionError,
    Recovery,
    RollbackFailedError,
    RunReport,
    RunStatus,
    Stage,
    StageCompleted,
    StageFailed,
    StageStarted,
)
from aflamingock.stores.memory import MemoryAuditStore
from tests.kit import calls_of, entries, entry, history, leave, raising, step, steps


def statuses(report: RunReport | None) -> dict[str, ChangeStatus]:
    assert report is not None
    return {one.change_id: one.status for one in report.changes()}


async def run(store: MemoryAuditStore, *stages: Stage, **options: Any) -> RunReport:
    return await Flamingock(stages=stages, audit_store=store, **options).run()


class TestOrder:
    async def test_stages_run_in_the_order_given(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        calls = calls_of(store)
        first = Stage("first", location=steps("yz", done))
        report = await run(store, first, Stage("second", location=steps("ab", done)))
        assert done == ["y", "z", "a", "b"]
        assert [stage.name for stage in report.stages] == ["first", "second"]
        assert {one.stage_id for one in await entries(store)} == {"first", "second", None}
        assert (await history(store)).count("CHECKPOINT") == 1
        assert calls["append"] == (2 + 1) + (2 + 1)

    async def test_stages_that_do_not_depend_on_each_other_overlap(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        here, there = anyio.Event(), anyio.Event()

        async def meet(mine: anyio.Event, other: anyio.Event) -> None:
            mine.set()
            with anyio.fail_after(20):
                await other.wait()

        left = step("a", done, body=lambda: meet(here, there))
        right = step("b", done, body=lambda: meet(there, here))
        await run(
            store,
            Stage("left", location=left),
            Stage("right", location=right, after=()),
            Stage("last", location=steps("c", done), after=("left", "right")),
        )
        assert sorted(done[:2]) == ["a", "b"]
        assert done[2:] == ["c"]
        log = await entries(store)
        assert [one.sequence for one in log] == list(range(1, len(log) + 1))
        assert len(log) == 7

    async def test_concurrent_stages_share_appends(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        calls = calls_of(store)
        stages = [
            Stage(f"s{n}", location=[step(f"s{n}-{m}", done) for m in range(5)], after=())
            for n in range(8)
        ]
        await run(store, *stages)
        assert len(done) == 40
        assert calls["append"] < 8 * (5 + 1)

    async def test_after_states_the_true_dependencies(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        await run(
            store,
            Stage("late", location=steps("a", done), after=("early",)),
            Stage("early", location=steps("b", done), after=()),
        )
        assert done == ["b", "a"]


class TestFailure:
    async def test_a_failed_stage_stops_those_after_it(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        bad = step("a", done, body=raising(ValueError("no")))
        with pytest.raises(ChangeFailedError) as caught:
            await run(store, Stage("one", location=bad), Stage("two", location=steps("b", done)))

        assert done == ["a", "not a"]
        found = {"a": ChangeStatus.ROLLED_BACK, "b": ChangeStatus.NOT_REACHED}
        assert statuses(caught.value.report) == found

    async def test_a_failure_stops_only_what_depends_on_it(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        bad = step("a", done, body=raising(ValueError("no")))
        with pytest.raises(ChangeFailedError) as caught:
            await run(
                store,
                Stage("bad", location=bad),
                Stage("beside", location=steps("bc", done), after=()),
                Stage("after-bad", location=steps("d", done), after=("bad",)),
                Stage("after-beside", location=steps("e", done), after=("beside",)),
                Stage("after-that", location=steps("f", done), after=("after-bad",)),
            )

        assert statuses(caught.value.report) == {
            "a": ChangeStatus.ROLLED_BACK,
            "b": ChangeStatus.APPLIED,
            "c": ChangeStatus.APPLIED,
            "d": ChangeStatus.NOT_REACHED,
            "e": ChangeStatus.APPLIED,
            "f": ChangeStatus.NOT_REACHED,
        }
        assert "CHECKPOINT" not in await history(store)

    async def test_two_failures_are_both_told(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        with pytest.raises(ChangeFailedError) as caught:
            await run(
                store,
                Stage("one", location=step("a", done, body=raising(ValueError("first")))),
                Stage(
                    "two", location=step("b", done, body=raising(ValueError("second"))), after=()
                ),
            )

        told = [str(caught.value), *caught.value.__notes__]
        assert any("first" in text for text in told)
        assert any("second" in text for text in told)

    async def test_events_say_how_each_stage_ended(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        heard: list[StageStarted | StageCompleted | StageFailed] = []
        bad = step("b", done, body=raising(ValueError("no")))
        with pytest.raises(ChangeFailedError):
            await run(
                store,
                Stage("one", location=steps("a", done)),
                Stage("two", location=bad),
                Stage("three", location=steps("c", done)),
                listeners=[
                    (kind, heard.append) for kind in (StageStarted, StageCompleted, StageFailed)
                ],
            )

        assert [(type(event), event.stage) for event in heard] == [
            *((StageStarted, "one"), (StageCompleted, "one")),
            *((StageStarted, "two"), (StageFailed, "two")),
        ]


class TestBlocked:
    async def test_a_change_in_doubt_blocks_its_stage_before_the_first_change_and_those_after(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        await leave(store, entry("b", AuditState.STARTED, error_trace=None))
        with pytest.raises(ManualInterventionError, match="'b'") as caught:
            await run(
                store,
                Stage("zero", location=steps("z", done)),
                Stage("one", location=steps("abc", done)),
                Stage("two", location=steps("d", done)),
                on_out_of_order="ignore",
            )

        assert done == ["z"]
        assert [issue.change_id for issue in caught.value.issues] == ["b"]
        assert caught.value.report is not None
        assert caught.value.report.status is RunStatus.BLOCKED
        assert statuses(caught.value.report) == {
            "z": ChangeStatus.APPLIED,
            "a": ChangeStatus.NOT_REACHED,
            "b": ChangeStatus.MANUAL_INTERVENTION,
            "c": ChangeStatus.NOT_REACHED,
            "d": ChangeStatus.NOT_REACHED,
        }
        assert [issue.change_id for issue in await store.issues("default")] == ["b"]

    async def test_every_change_in_doubt_is_named(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        await leave(store, entry("a", AuditState.STARTED), entry("b", AuditState.FAILED))
        with pytest.raises(ManualInterventionError) as caught:
            await run(store, Stage("one", location=steps("abc", done)))

        assert [issue.change_id for issue in caught.value.issues] == ["a", "b"]
        assert done == []

    @pytest.mark.parametrize(
        ("state", "expected"),
        [
            (AuditState.STARTED, ["a"]),
            (AuditState.FAILED, ["a"]),
            (AuditState.ROLLBACK_FAILED, ["a"]),
            (AuditState.ROLLBACK_STARTED, ["not a", "a"]),
        ],
    )
    async def test_what_may_be_tried_again_is(
        self, store: MemoryAuditStore, done: list[str], state: AuditState, expected: list[str]
    ) -> None:
        await leave(store, entry("a", state))
        change = step("a", done, recovery=Recovery.ALWAYS_RETRY)
        report = await run(store, Stage("one", location=change))
        assert done == expected
        assert report.status is RunStatus.SUCCESS
        assert (await history(store))[-3:] == ["a STARTED", "a APPLIED", "CHECKPOINT"]
        assert [one.attempt for one in await entries(store)][-2] == 2
        again = await run(store, Stage("one", location=change))
        assert again.status is RunStatus.NOTHING_TO_DO

    async def test_an_unfinished_rollback_is_finished_in_the_log_too(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        await leave(store, entry("a", AuditState.ROLLBACK_STARTED))
        change = step("a", done, recovery=Recovery.ALWAYS_RETRY)
        await run(store, Stage("one", location=change))
        assert await history(store) == [
            *("a ROLLBACK_STARTED", "a ROLLBACK_STARTED", "a ROLLED_BACK"),
            *("a STARTED", "a APPLIED", "CHECKPOINT"),
        ]

    async def test_one_whose_rollback_cannot_be_finished_is_not_applied(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        await leave(store, entry("a", AuditState.ROLLBACK_STARTED))
        change = step("a", done, rollback=raising(OSError("stuck")), recovery=Recovery.ALWAYS_RETRY)
        with pytest.raises(RollbackFailedError) as caught:
            await run(store, Stage("one", location=change))

        assert isinstance(caught.value.__cause__, OSError)
        assert done == ["not a"]
        assert statuses(caught.value.report) == {"a": ChangeStatus.ROLLBACK_FAILED}


class TestApplied:
    async def test_a_stage_with_nothing_to_do_lets_the_others_work(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        heard: list[StageStarted | StageCompleted] = []
        await run(store, Stage("one", location=steps("ab", done)))
        report = await run(
            store,
            Stage("one", location=steps("ab", done)),
            Stage("two", location=steps("c", done)),
            listeners=[(kind, heard.append) for kind in (StageStarted, StageCompleted)],
        )
        assert done == ["a", "b", "c"]
        assert [event.stage for event in heard] == ["two", "two"]
        assert list(statuses(report).values()) == [
            *(ChangeStatus.ALREADY_APPLIED, ChangeStatus.ALREADY_APPLIED, ChangeStatus.APPLIED)
        ]

    async def test_the_last_stage_may_be_applied_already(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        await run(store, Stage("two", location=steps("c", done)))
        await run(
            store, Stage("one", location=steps("ab", done)), Stage("two", location=steps("c", done))
        )
        assert done == ["c", "a", "b"]
        assert (await history(store))[-1] == "CHECKPOINT"

    async def test_a_stage_without_changes_is_complete(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        empty = Stage("empty", location=[])
        report = await run(store, empty, Stage("two", location=steps("a", done)))
        assert done == ["a"]
        assert report.status is RunStatus.SUCCESS
