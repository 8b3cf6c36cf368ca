"""A task that lives as long as a block of code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio


@asynccontextmanager
async def task_beside(
    work: Callable[[], Coroutine[Any, Any, None]],
) -> AsyncIterator[anyio.CancelScope]:
    """
    Run *work* beside the block, and wait for its end.

    An error of the block cancels the work and passes as it is, not in an exception group.

    :param work: raises nothing
    :return: the scope that cancels both
    """
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(work)
        try:
            yield group.cancel_scope
        except Exception as exc:
            failure = exc
            group.cancel_scope.cancel()

    if failure is not None:
        raise failure
