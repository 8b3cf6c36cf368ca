"""A kind of database: how it is reached, and what changes do in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from aflamingock import AuditEntry
from aflamingock.abc import AuditStore, TransactionalTargetSystem

_CHANGE = """
    async def execute(self, PARAMETERS, pause):
        EXECUTE
        await pause("execute {id}")

    async def rollback(self, PARAMETERS, pause):
        ROLLBACK
        await pause("rollback {id}")
"""


def transactional_change(parameters: str, *, execute: str, rollback: str) -> str:
    """Return the source of the two coroutines, in which ``{id}`` is that of the change."""
    change = _CHANGE.replace("PARAMETERS", parameters)
    return change.replace("EXECUTE", execute).replace("ROLLBACK", rollback)


@dataclass(frozen=True, kw_only=True)
class Place:
    """
    A database of a test's own.

    :ivar kind: one of :data:`tests.databases.DATABASES`
    :ivar url: where it is; for SQLite a path
    :ivar name: which one there, if the URL does not say it
    """

    kind: str
    url: str
    name: str = ""


class Database(ABC):
    """
    A kind of database.

    :ivar change: the two coroutines of a transactional change, which writes its id into the effects
    :ivar single_host: whether a dead process is told from a slow one, so that nobody waits for it
    """

    change: str
    single_host: bool = False

    @abstractmethod
    def connect(
        self, place: Place, calls: list[str] | None = None
    ) -> AbstractAsyncContextManager[Any]:
        """
        Lend what stores and target systems are made with.

        :param calls: gets a line for each round trip, but those to set connections up or to end
            them
        """

    @abstractmethod
    def target(self, client: Any, place: Place) -> TransactionalTargetSystem[Any]:
        """Return a target system that is called ``data``."""

    @abstractmethod
    def store(self, client: Any, place: Place, **options: Any) -> AuditStore[Any]:
        """Return a store of its own."""

    def store_with(self, target: Any, place: Place) -> AuditStore[Any]:
        """Return a store that shares the transactions of *target*."""
        store: AuditStore[Any] = self._store_type().from_target_system(target)
        return store

    @abstractmethod
    def _store_type(self) -> Any: ...

    def dependencies(self, place: Place) -> dict[str, object]:
        """Return what else the coroutines of changes ask for."""
        return {}

    @abstractmethod
    async def prepare(self, place: Place) -> None:
        """Make room for the effects."""

    async def fill(self, place: Place, entries: Sequence[AuditEntry]) -> None:
        """Write many entries, for which the tables must be there."""
        async with self.connect(place) as client, self.store(client, place) as store:
            for start in range(0, len(entries), 1000):
                await store.append(entries[start : start + 1000])

    @abstractmethod
    async def effects(self, place: Place) -> list[str]:
        """Return the ids of the changes that have had an effect, once for each time."""
