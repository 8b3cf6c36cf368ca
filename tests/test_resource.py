"""What is opened before use and closed after, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import anyio
import anyio.lowlevel

from aflamingock.abc import Resource


class Door(Resource):
    """Takes several moments to be closed."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = False
        self.closing = anyio.Event()

    async def _connect(self, stack: AsyncExitStack) -> None:
        self.is_open = True
        stack.push_async_callback(self._shut)

    async def _shut(self) -> None:
        self.closing.set()
        for _ in range(5):
            await anyio.sleep(0.002)

        self.is_open = False


async def use(door: Door) -> None:
    async with door:
        await anyio.lowlevel.checkpoint()


async def test_a_task_that_is_cancelled_again_and_again_closes_what_it_has_opened() -> None:
    door = Door()
    task = asyncio.ensure_future(use(door))
    await door.closing.wait()
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)

    assert task.cancelled()
    assert not door.is_open


async def test_a_scope_that_is_cancelled_closes_what_was_opened_in_it() -> None:
    door = Door()
    with anyio.CancelScope() as scope:
        async with door:
            scope.cancel()
            await anyio.lowlevel.checkpoint()

    assert scope.cancelled_caught
    assert not door.is_open


async def test_the_last_of_several_users_closes() -> None:
    door = Door()
    async with door:
        await use(door)
        assert door.is_open

    assert not door.is_open
