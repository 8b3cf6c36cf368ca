"""The hook for frameworks that have a lifespan: Starlette, FastAPI and their kin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

from ._start import Mode, Source, check_mode, started

InnerLifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]
Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]


def lifespan(
    flamingock: Source, inner: InnerLifespan | None = None, mode: Mode = "apply"
) -> Lifespan:
    """
    Return the lifespan of an application that serves when its changes are applied.

    The Flamingock is open as long as the application lives. Requests find it in their state as
    ``flamingock``, and what the run did as ``flamingock_report`` (``None`` in the modes without
    a run, and in the background).

    :param flamingock: a Flamingock, or a function or coroutine function that makes one
    :param inner: the application's own lifespan, entered after the run and left before the
        Flamingock is closed; its state is added
    :param mode: ``"apply"`` runs, then serves; ``"wait"`` serves when somebody else has applied
        what is pending, and waits for it as long as for the lock; ``"verify"`` refuses to start
        if something is pending; ``"background"`` serves at once and runs meanwhile
    :raises ConfigurationError: if there is no such mode
    """
    check_mode(mode)

    @asynccontextmanager
    async def context(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        async with AsyncExitStack() as stack:
            start = await stack.enter_async_context(started(flamingock, mode))
            state = await stack.enter_async_context(inner(app)) if inner else None
            yield {**start.state, **(state or {})}

    return context
