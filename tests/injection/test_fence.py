"""The fence around the code of changes."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress

import anyio
import anyio.lowlevel
import pytest

from aflamingock._injection.guard import fenced
from aflamingock.exceptions import LockLostError
from tests.injection.kit import Lease


class TestFenced:
    async def test_the_result_is_passed_on(self, lease: Lease) -> None:
        async def work() -> int:
            await anyio.lowlevel.checkpoint()
            await asyncio.sleep(0.001)
            return 7

        assert await fenced(work(), lease.check) == 7
        assert lease.checks >= 3

    async def test_an_error_is_passed_on(self, lease: Lease) -> None:
        async def work() -> None:
            await anyio.lowlevel.checkpoint()
            raise ValueError("mine")

        with pytest.raises(ValueError, match="mine"):
            await fenced(work(), lease.check)

    async def test_nothing_begins_after_the_lease_ended(self, lease: Lease) -> None:
        steps: list[str] = []

        async def work() -> None:
            steps.append("begun")

        lease.ended = True
        with pytest.raises(LockLostError):
            await fenced(work(), lease.check)

        assert steps == []

    async def test_no_further_step_is_taken_although_the_answer_has_come(
        self, lease: Lease
    ) -> None:
        answer = asyncio.get_running_loop().create_future()
        steps: list[str] = []

        async def work() -> None:
            steps.append("asked")
            await answer
            steps.append("went on")

        def come_back() -> None:
            lease.ended = True
            answer.set_result(None)

        asyncio.get_running_loop().call_soon(come_back)
        with pytest.raises(LockLostError):
            await fenced(work(), lease.check)

        assert steps == ["asked"]

    async def test_an_answer_that_is_an_error_does_not_hide_the_loss(self, lease: Lease) -> None:
        answer = asyncio.get_running_loop().create_future()
        seen: list[str] = []

        async def work() -> None:
            try:
                await answer
            except ConnectionError:
                seen.append("tried again")

        def come_back() -> None:
            lease.ended = True
            answer.set_exception(ConnectionError("reset"))

        asyncio.get_running_loop().call_soon(come_back)
        with pytest.raises(LockLostError):
            await fenced(work(), lease.check)

        assert seen == []

    async def test_finally_runs_and_except_exception_swallows_nothing(self, lease: Lease) -> None:
        seen: list[str] = []

        async def work() -> None:
            try:
                lease.ended = True
                await anyio.lowlevel.checkpoint()
            except Exception:
                seen.append("swallowed")
            finally:
                seen.append("cleaned up")

        with pytest.raises(LockLostError):
            await fenced(work(), lease.check)

        assert seen == ["cleaned up"]

    async def test_who_swallows_the_cancellation_is_cancelled_at_each_wait(
        self, lease: Lease
    ) -> None:
        caught = 0

        async def work() -> str:
            nonlocal caught
            lease.ended = True
            for _ in range(3):
                try:
                    await anyio.lowlevel.checkpoint()
                except asyncio.CancelledError:
                    caught += 1

            return "done all the same"

        with pytest.raises(LockLostError):
            await fenced(work(), lease.check)

        assert caught == 3

    async def test_an_error_of_the_clean_up_is_the_cause(self, lease: Lease) -> None:
        async def work() -> None:
            lease.ended = True
            try:
                await anyio.lowlevel.checkpoint()
            finally:
                raise OSError("cannot close")

        with pytest.raises(LockLostError) as caught:
            await fenced(work(), lease.check)

        assert isinstance(caught.value.__cause__, OSError)

    async def test_a_scope_inside_does_not_swallow_the_loss(self, lease: Lease) -> None:
        steps: list[str] = []

        async def work() -> None:
            with anyio.move_on_after(0):
                lease.ended = True
                await anyio.sleep(10)

            steps.append("went on")

        with pytest.raises(LockLostError):
            await fenced(work(), lease.check)

        assert steps == []

    async def test_timeouts_inside_work(self, lease: Lease) -> None:
        async def work() -> list[str]:
            seen = []
            with anyio.move_on_after(0):
                await anyio.sleep(10)

            seen.append("moved on")
            with suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await asyncio.sleep(10)

            seen.append("timed out")
            with suppress(TimeoutError):
                with anyio.fail_after(0):
                    await anyio.sleep_forever()

            await anyio.lowlevel.checkpoint()
            return seen

        assert await fenced(work(), lease.check) == ["moved on", "timed out"]

    async def test_task_groups_and_threads_inside_work(self, lease: Lease) -> None:
        async def work() -> list[int]:
            found: list[int] = []

            async def add(number: int) -> None:
                await anyio.lowlevel.checkpoint()
                found.append(await anyio.to_thread.run_sync(lambda: number))

            async with anyio.create_task_group() as group:
                for number in range(3):
                    group.start_soon(add, number)

            return sorted(found)

        assert await fenced(work(), lease.check) == [0, 1, 2]

    async def test_a_task_group_inside_is_ended_with_its_tasks(self, lease: Lease) -> None:
        ended: list[str] = []

        async def wait() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                ended.append("child")

        async def lose() -> None:
            lease.ended = True

        async def work() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.lowlevel.checkpoint()
                await lose()
                await anyio.lowlevel.checkpoint()

        with pytest.raises(LockLostError):
            await fenced(work(), lease.check)

        assert ended == ["child"]

    async def test_a_cancellation_from_outside_is_passed_on(self, lease: Lease) -> None:
        seen: list[type[BaseException]] = []

        async def work() -> None:
            try:
                await anyio.sleep_forever()
            except asyncio.CancelledError as exc:
                seen.append(type(exc))
                raise

        with anyio.move_on_after(0) as scope:
            await fenced(work(), lease.check)

        assert scope.cancelled_caught
        assert seen == [asyncio.CancelledError]

    async def test_the_loss_comes_out_of_a_scope_that_is_cancelled_as_well(
        self, lease: Lease
    ) -> None:
        task = asyncio.current_task()

        async def work() -> None:
            await anyio.sleep_forever()

        def end() -> None:
            scope.cancel()
            lease.ended = True

        async def run() -> None:
            with scope:
                await fenced(work(), lease.check)

        scope = anyio.CancelScope()
        asyncio.get_running_loop().call_soon(end)
        with pytest.raises(LockLostError):
            await run()

        await anyio.lowlevel.checkpoint()
        assert task is not None
        assert task.cancelling() == 0

    async def test_the_coroutine_is_closed_with_the_fence(self, lease: Lease) -> None:
        closed: list[str] = []

        async def work() -> None:
            try:
                await asyncio.sleep(10)
            finally:
                closed.append("closed")

        coroutine = fenced(work(), lease.check)
        coroutine.send(None)
        coroutine.close()
        assert closed == ["closed"]

    async def test_a_broken_check_closes_the_coroutine(self) -> None:
        async def work() -> None:
            await anyio.lowlevel.checkpoint()

        def check() -> None:
            raise RuntimeError("broken")

        coroutine = work()
        with pytest.raises(RuntimeError, match="broken"):
            await fenced(coroutine, check)

        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED

    async def test_two_fences_work_one_in_the_other(self, lease: Lease) -> None:
        async def work() -> int:
            await anyio.lowlevel.checkpoint()
            return 1

        assert await fenced(fenced(work(), lease.check), lease.check) == 1
