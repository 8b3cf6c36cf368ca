"""The ways in which a run is cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import anyio.from_thread
import pytest

Work = Callable[[], Coroutine[Any, Any, object]]

Cut = Callable[[Work, anyio.Event], Awaitable[None]]


async def by_task(work: Work, begun: anyio.Event) -> None:
    """Cancel the task once."""
    task = asyncio.ensure_future(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_task_again_and_again(work: Work, begun: anyio.Event) -> None:
    """Cancel the task as long as it has not ended."""
    task = asyncio.ensure_future(work())
    await begun.wait()
    while not task.done():
        task.cancel()
        await asyncio.sleep(0.001)

    assert task.cancelled()


async def by_scope(work: Work, begun: anyio.Event) -> None:
    """Cancel a scope around the work."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await begun.wait()
        tasks.cancel_scope.cancel()


async def by_timeout(work: Work, begun: anyio.Event) -> None:
    """Let a scope's time run out."""
    with anyio.move_on_after(5) as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            await begun.wait()
            scope.deadline = anyio.current_time()
            await anyio.sleep_forever()

    assert scope.cancelled_caught


ALL_CUTS = pytest.mark.parametrize("cut", [by_task, by_task_again_and_again, by_scope, by_timeout])
