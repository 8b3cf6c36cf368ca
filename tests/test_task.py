"""Work that is not cut off in the middle."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import anyio
import pytest
from anyio.lowlevel import checkpoint

from aflamingock._task import finished, supervised


async def _cancel_again_and_again(task: asyncio.Task, *, times: int = 5) -> None:
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)


class TestSupervised:
    async def test_the_answer_is_passed_on(self):
        async def work() -> str:
            await checkpoint()
            return "answer"

        assert await supervised(work) == "answer"

    async def test_an_answer_may_be_none(self):
        async def work() -> int | None:
            await checkpoint()
            return None

        assert await supervised(work) is None

    async def test_an_error_is_passed_on_as_it_is(self):
        async def work() -> None:
            raise LookupError("as it is")

        with pytest.raises(LookupError, match="as it is"):
            await supervised(work)

    async def test_a_shield_holds_however_often_the_task_is_cancelled(self):
        at_work, may_end = anyio.Event(), anyio.Event()
        steps: list[str] = []

        async def work() -> None:
            try:
                at_work.set()
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    steps.append("begun")
                    await may_end.wait()
                    steps.append("ended")

        task = asyncio.create_task(supervised(work))
        await at_work.wait()
        await _cancel_again_and_again(task)
        assert steps == ["begun"]

        await _cancel_again_and_again(task)
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert steps == ["begun", "ended"]

    async def test_it_waits_for_the_end_of_the_work(self):
        ended = False

        async def work() -> None:
            nonlocal ended
            with anyio.CancelScope(shield=True):
                for _ in range(50):
                    await checkpoint()

            ended = True

        task = asyncio.create_task(supervised(work))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await _cancel_again_and_again(task)
        with suppress(asyncio.CancelledError):
            await task

        assert ended

    async def test_a_cancellation_that_comes_from_within_is_passed_on(self):
        async def work() -> None:
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await supervised(work)


class TestFinished:
    async def test_work_is_done_to_its_end(self):
        done: list[str] = []

        async def work() -> None:
            await checkpoint()
            done.append("work")

        await finished(work, budget=lambda: 0.0)

        assert done == ["work"]

    async def test_an_error_is_passed_on_as_it_is(self):
        async def work() -> None:
            raise LookupError("as it is")

        with pytest.raises(LookupError, match="as it is"):
            await finished(work, budget=lambda: 0.0)

    async def test_the_budget_is_not_asked_for_without_a_cancellation(self):
        async def work() -> None:
            for _ in range(10):
                await checkpoint()
                assert asked == []

        asked: list[str] = []

        def budget() -> float:
            asked.append("budget")
            return 60.0

        await finished(work, budget=budget)

    async def test_work_goes_on_after_a_cancellation(self):
        at_work, may_end = anyio.Event(), anyio.Event()
        done: list[str] = []

        async def work() -> None:
            at_work.set()
            await may_end.wait()
            done.append("work")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: finished(work, budget=lambda: 60.0))
            await at_work.wait()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                for _ in range(5):
                    await checkpoint()

                assert done == []
                may_end.set()

        assert done == ["work"]

    async def test_work_is_cut_off_when_the_budget_is_used_up(self):
        at_work = anyio.Event()
        errors: list[BaseException] = []

        async def work() -> None:
            at_work.set()
            await anyio.sleep_forever()

        async def run() -> None:
            try:
                await finished(work, budget=lambda: 0.05)
            except TimeoutError as exc:
                errors.append(exc)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await at_work.wait()
            tasks.cancel_scope.cancel()

        assert [type(error) for error in errors] == [TimeoutError]

    async def test_an_error_after_a_cancellation_is_passed_on(self):
        at_work, may_end = anyio.Event(), anyio.Event()
        errors: list[BaseException] = []

        async def work() -> None:
            at_work.set()
            await may_end.wait()
            raise LookupError

        async def run() -> None:
            try:
                await finished(work, budget=lambda: 60.0)
            except LookupError as exc:
                errors.append(exc)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await at_work.wait()
            tasks.cancel_scope.cancel()
            may_end.set()

        assert [type(error) for error in errors] == [LookupError]

    async def test_supervised_work_is_finished_however_often_the_task_is_cancelled(self):
        at_work, may_end = anyio.Event(), anyio.Event()
        done: list[str] = []

        async def work() -> None:
            at_work.set()
            await may_end.wait()
            done.append("work")

        task = asyncio.create_task(supervised(lambda: finished(work, budget=lambda: 60.0)))
        await at_work.wait()
        await _cancel_again_and_again(task)
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert done == ["work"]

    async def test_the_budget_counts_from_the_first_cancellation(self):
        at_work = anyio.Event()
        asked: list[str] = []

        def budget() -> float:
            asked.append("budget")
            return 0.1

        async def work() -> None:
            at_work.set()
            await anyio.sleep_forever()

        task = asyncio.create_task(supervised(lambda: finished(work, budget=budget)))
        await at_work.wait()
        await _cancel_again_and_again(task)
        with pytest.raises(asyncio.CancelledError):
            await task

        assert asked == ["budget"]
