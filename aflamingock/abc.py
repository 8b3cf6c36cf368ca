"""
The interfaces: what a new database or another external system has to offer.

An **audit store** does two atomic things only: it inserts entries whose numbers must not exist
yet, and it replaces a record that must not have changed. What an entry means, when a lease is
dead, how long to wait and when to try again is decided above, once for all stores.

A **target system** hands out the objects that changes work with. A transactional one also runs
a change in a transaction of its own, and keeps markers beside the data.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Generic

from ._records import AuditEntry, Issue, Record
from ._resource import Resource as Resource
from ._target import Offer as Offer
from ._target import SessionT
from ._target import TargetSystem as TargetSystem
from ._target import TransactionalTargetSystem as TransactionalTargetSystem
from .exceptions import AuditStoreError

_HEALTH = "health"
"""The key of the record that a health check writes."""


class AuditStore(Resource, Generic[SessionT]):
    """
    Keeps the log, the records and the issues of any number of services, and no more.

    Opening creates nothing. Where a table is missing, reads find nothing, and the caller calls
    :meth:`create` before it writes, or after an :exc:`AuditStoreSchemaError`. Every method raises
    :exc:`AuditStoreConnectionError` or :exc:`SystemBusyError` if surely nothing was done (the
    caller tries again), and :exc:`UnknownOutcomeError` if a write may have been done (the caller
    looks).

    :ivar exclusive_transactions: while a transaction shared with a target system is open, the
        store cannot write outside of it
    :ivar single_host: all who use the store run on one host, so that a holder of the lease whose
        process is gone can be told from one that is slow
    :ivar auto_create: whether the store may create what is missing; if not, it only makes sure
        that nothing is
    """

    exclusive_transactions: bool = False
    single_host: bool = False
    auto_create: bool = True

    @abstractmethod
    async def create(self) -> None:
        """
        Create the tables, collections and indexes that are missing.

        Idempotent, and safe when many instances do it at once. Where *auto_create* is off, it is
        :meth:`require_schema` and no more.

        :raises AuditStorePermissionError: if the user may not create one
        :raises AuditStoreIndexError: if something else stands in the place of one
        """

    @abstractmethod
    async def verify_schema(self) -> list[str]:
        """
        Return the commands that create what is missing, for a person to run; none if nothing is.

        Writes nothing.

        :raises AuditStoreIndexError: if something else stands in the place of one
        """

    async def require_schema(self) -> None:
        """
        Make sure that nothing is missing; writes nothing.

        :raises AuditStoreError: if something is, with the commands that create it
        """
        if commands := "\n".join(await self.verify_schema()):
            raise AuditStoreError(
                f"{self!r} is not complete, and auto_create=False forbids to create what is "
                f"missing. Run this, or let an administrator do so:\n{commands}"
            )

    @abstractmethod
    def permissions(self) -> str:
        """Return the least rights that the store needs, for an administrator; never connects."""

    @abstractmethod
    async def last(self, service: str, count: int) -> Sequence[AuditEntry]:
        """
        Return the last entries of a service, newest first, in one read.

        :param count: how many at the most
        """

    @abstractmethod
    def entries(
        self, service: str, *, after: int = 0, brief: bool = False
    ) -> AsyncIterator[AuditEntry]:
        """
        Yield the entries of a service in the order of their numbers, in batches of bounded size.

        :param after: yield only entries numbered above this
        :param brief: leave out the error trace, which may be long
        """

    @abstractmethod
    async def append(
        self, entries: Sequence[AuditEntry], *, session: SessionT | None = None
    ) -> None:
        """
        Insert entries of one service whose numbers follow each other.

        Atomic where the database can; else they are written in order and the first refusal ends
        it, so that what stands is a prefix. Durable when it returns.

        :param session: write within this transaction of a target system, as part of it
        :raises SequenceConflictError: if one of the numbers is taken; nothing is written at it
            or after it
        """

    @abstractmethod
    async def read_record(self, key: str) -> Record | None:
        """Return the record last written under *key*, with its age by the store's clock."""

    @abstractmethod
    async def swap_record(self, current: Record | None, new: Record) -> bool:
        """
        Write the record *new* if *current* still stands, and stamp it by the store's clock.

        :param current: the record that was read (its token decides), ``None`` if there was none
        :return: whether the record was written
        """

    @abstractmethod
    async def save_issue(self, issue: Issue) -> None:
        """Insert the issue, or replace the one of the same service and id."""

    @abstractmethod
    async def issues(self, service: str) -> Sequence[Issue]:
        """Return the kept issues of a service, oldest first."""

    @abstractmethod
    def open_side_channel(self) -> AbstractAsyncContextManager[AuditStore[Any]] | None:
        """
        Return a second connection to the same records, for another thread's event loop.

        :return: to be entered there and left there; ``None`` if the client cannot be opened a
            second time
        """

    async def test_connection(self) -> None:
        """
        Read once, to see that the store can be reached; it is opened for it if it is not open.

        :raises AuditStoreError: if it cannot be reached, or not be read
        """
        async with self:
            await self.last(_HEALTH, 1)

    async def write_health_check(self) -> float:
        """
        Write a record of its own, to see that the store can be written; creates what is missing.

        :return: how long the write took, in seconds
        :raises AuditStoreError: if it cannot be reached, or not be written
        """
        async with self:
            await self.create()
            current = await self.read_record(_HEALTH)
            started = perf_counter()
            await self.swap_record(current, Record(key=_HEALTH, value={}))
            return perf_counter() - started

    def shares(self, target: TargetSystem) -> bool:
        """Say whether entries can be written within a transaction of *target*."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeContext:
    """
    What a change may know of its own execution; asked for by annotation.

    :ivar epoch: the epoch of the lease, for targets that can compare it
    :ivar check: raises :exc:`LockLostError` if the lease has ended; for long loops
    """

    service: str
    environment: str | None
    execution_id: str
    stage: str
    change_id: str
    target_system: str | None
    attempt: int
    epoch: int
    logger: logging.Logger
    check: Callable[[], None]
