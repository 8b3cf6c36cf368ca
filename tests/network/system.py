"""A database behind a proxy: as audit store and as target system at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Any

from aflamingock import AuditEntry, change
from aflamingock.abc import AuditStore, ChangeContext, TransactionalTargetSystem
from tests.chaos.recorder import Recorder
from tests.servers.proxy import Proxy

Pair = tuple[AuditStore[Any], TransactionalTargetSystem[Any]]
Coroutine = Callable[..., Awaitable[object]]

TARGET = "db"


class System(ABC):
    """
    A database, whose changes each leave a line under the service's name.

    :ivar commit: what the request that commits a transaction with an APPLIED or a marker looks like
    :ivar last_runs: how many runs it may take until one without faults of the network succeeds
    """

    commit: str
    last_runs = 1

    @abstractmethod
    def proxy(self) -> Proxy:
        """Return a proxy before the server, for the caller to stop."""

    @abstractmethod
    def lent(self, proxy: Proxy | None = None) -> AbstractAsyncContextManager[Pair]:
        """Lend a store and a target that share their transactions, behind *proxy*."""

    def unrest(self) -> AbstractContextManager[None]:
        """Let the servers themselves be in trouble for the length of the block, if they can be."""
        return nullcontext()

    @abstractmethod
    async def prepare(self) -> None:
        """Create what changes and markers are written to."""

    @abstractmethod
    async def effects(self, service: str) -> Counter[str]:
        """Return how often each change has left its line."""

    @abstractmethod
    def coroutines(self, id: str) -> dict[str, Coroutine]:
        """Return ``execute``, ``rollback`` and ``verify`` of a change."""

    def change(
        self,
        id: str,
        *,
        has_verify: bool = False,
        pause: Coroutine | None = None,
        recorder: Recorder | None = None,
        **options: Any,
    ) -> type:
        """
        Return a change.

        :param pause: called within ``execute``, after the line was written
        :param recorder: is told of each call
        """
        members = self.coroutines(id)
        if not has_verify:
            del members["verify"]

        if pause is not None:
            members["execute"] = _followed(members["execute"], pause)

        if recorder is not None:
            for method in ("execute", "rollback"):
                members[method] = _recorded(members[method], method, recorder)

        declare = change(id=id, author="tests", order=id, target_system=TARGET, **options)
        return declare(type("Step", (), members))

    async def log(self, service: str) -> list[AuditEntry]:
        """Return the whole log, past the proxy."""
        async with self.lent() as (store, _), store:
            return [entry async for entry in store.entries(service)]


def _followed(execute: Coroutine, pause: Coroutine) -> Coroutine:
    async def both(*args: Any, **kwargs: Any) -> None:
        await execute(*args, **kwargs)
        await pause()

    both.__wrapped__ = execute  # type: ignore[attr-defined]  # for the parameters
    return both


def _recorded(call: Coroutine, method: Any, recorder: Recorder) -> Coroutine:
    async def recorded(*args: Any, **kwargs: Any) -> None:
        given = (*args, *kwargs.values())
        (context,) = (each for each in given if isinstance(each, ChangeContext))
        with recorder.call(method, context):
            await call(*args, **kwargs)

    recorded.__wrapped__ = call  # type: ignore[attr-defined]  # for the parameters
    return recorded
