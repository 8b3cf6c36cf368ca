"""What the suites need to meet a store or a target that is busy for a moment."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio

from ..abc import AuditStore
from ..exceptions import AuditStoreConnectionError, SystemBusyError

T = TypeVar("T")

_PATIENCE = 60.0

StoreFactory = Callable[[], AuditStore[Any]]
"""Returns, at each call, another handle on one physical store, which is empty at first."""


async def insist(call: Callable[[], Awaitable[T]]) -> T:
    """
    Call until it is done, as the engine does where surely nothing was done.

    :raises TimeoutError: if it is refused for a minute
    """
    with anyio.fail_after(_PATIENCE):
        while True:
            try:
                return await call()
            except (SystemBusyError, AuditStoreConnectionError):
                await anyio.sleep(random.uniform(0.001, 0.02))


@asynccontextmanager
async def created(make_store: StoreFactory) -> AsyncIterator[AuditStore[Any]]:
    """Open a store, and create its tables."""
    async with make_store() as store:
        await insist(store.create)
        yield store
