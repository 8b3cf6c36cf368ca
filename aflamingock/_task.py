"""Work that is not cut off in the middle: shielded, and bounded from the cancellation on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


async def supervised(work: Callable[[], Awaitable[T]]) -> T:
    """
    Run *work* in a task of its own, and wait for it.

    A plain ``task.cancel()`` then reaches the work as the cancellation of an anyio scope, which a
    shield can hold off, however often it is repeated.
    """
    answers: list[T] = []
    failures: list[BaseException] = []

    async def carry_out() -> None:
        try:
            answers.append(await work())
        except BaseException as exc:  # raised again below, outside of the group that would wrap it
            failures.append(exc)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(carry_out)

    if failures:
        raise failures[0]

    return answers[0]


async def finished(work: Callable[[], Awaitable[None]], *, budget: Callable[[], float]) -> None:
    """
    Run *work* to its end even when cancelled, then for a bounded time only.

    :param budget: asked when the cancellation comes: for how many seconds the work may go on
    :raises TimeoutError: if the work was cut off then
    """
    failures: list[Exception] = []

    async def limit(scope: anyio.CancelScope) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            scope.deadline = anyio.current_time() + budget()

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope(shield=True) as scope:
            tasks.start_soon(limit, scope)
            try:
                await work()
            except Exception as exc:  # raised again below, outside of the group that would wrap it
                failures.append(exc)

        tasks.cancel_scope.cancel()

    if failures:
        raise failures[0]

    if scope.cancelled_caught:
        raise TimeoutError("It was cut off: it went on for too long after the run was interrupted.")
