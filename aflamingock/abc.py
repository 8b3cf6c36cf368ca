"""
The interfaces: what a new database or another external system has to offer.

An **audit store** does two atomic things only: it inserts entries whose numbers must not exist
yet, and it replaces a record that must not have changed. What an entry means, when a lease is
dead, how long to wait and when to try again is decided above, once for all stores.

A **target system** hands out the objects that changes work with. A transactional one also runs
a change in a transaction of its own, and keeps markers beside the data.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from time import perf_counter
from typing import Any, Generic, TypeVar

from ._offer import ChangeContext as ChangeContext
from ._offer import Offer as Offer
from ._records import AuditEntry, Issue, Record
from ._resource import Resource as Resource
from ._states import MarkerOutcome
from .exceptions import AuditStoreError

SessionT = TypeVar("SessionT")

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


class TargetSystem(Resource):
    """
    What changes touch.

    :ivar id: what changes call it in ``target_system=``
    """

    def __init__(self, id: str) -> None:
        super().__init__()
        self.id = id

    @abstractmethod
    def offers(self) -> Sequence[Offer]:
        """Return what changes may ask for; known without a connection."""

    @abstractmethod
    def handles(self) -> AbstractAsyncContextManager[Mapping[str, object]]:
        """Lend the objects of the offers, by their first names, outside a transaction."""


class TransactionalTargetSystem(TargetSystem, Generic[SessionT]):
    """
    A target system that can run a change in a transaction.

    :ivar needs_session_parameter: whether such a change must ask for the offer called
        ``session``, because the driver cannot bind it to what else the change uses
    """

    needs_session_parameter: bool = False

    async def require_transactions(self) -> None:
        """
        Make sure that the server has transactions, before any change is carried out.

        :raises ConfigurationError: if it has none
        """

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[SessionT]:
        """
        Run a transaction: committed at the end of the block, rolled back if the block raises.

        While the block runs, the transaction cannot be ended by the code in it. Whatever is
        raised, a cancellation too, means that nothing was committed, but for the error that says
        that it is not known.

        :raises UnknownOutcomeError: if the commit may or may not have been done
        :raises SystemBusyError: if it could not be begun; nothing was done
        """

    async def announce(self) -> str | None:
        """
        Return the identity of a transaction to come; the audit log keeps it from the start.

        Nothing is done in the system. Whatever is announced and never run ends with the target.

        :return: to be given to :meth:`announced`; ``None`` where no process can leave a transaction
            open behind it
        """
        return None

    def announced(self, identity: str | None) -> AbstractAsyncContextManager[SessionT]:
        """
        Run a transaction as :meth:`transaction` does, under the identity that was announced.

        :param identity: ``None`` if there is none
        """
        return self.transaction()

    async def end_orphan(self, identity: str) -> None:
        """
        End the transaction of a process that is gone, which keeps locked what it has written.

        :param identity: of a transaction that may have ended, or never have begun
        :raises SystemBusyError: if it could not be ended just now
        """

    @abstractmethod
    def objects(self, session: SessionT) -> Mapping[str, object]:
        """Return the objects of the offers, by their first names, bound to a transaction."""

    async def has_committed(self, session: SessionT) -> bool:
        """
        Say whether a part of an open transaction may stand already, whatever becomes of the rest.

        Asked once, when the change has ended, in whatever way. It must not raise.
        """
        return False

    @abstractmethod
    async def insert_marker(self, session: SessionT, key: str, change_id: str) -> None:
        """
        Say, as the last statement of a transaction, that it was committed.

        :param key: the id of the attempt's first entry
        :raises LockLostError: if somebody has claimed the marker, so that the transaction must
            never be committed
        """

    @abstractmethod
    async def claim_marker(self, key: str, change_id: str) -> MarkerOutcome:
        """
        Insert the marker *key* as ABORTED, so that its transaction can never be committed.

        Atomic and durable. If there is a marker already, nothing is written.

        :return: ``COMMITTED`` if the transaction was committed, else ``ABORTED``
        """

    @abstractmethod
    async def remove_marker(self, key: str) -> None:
        """Remove the marker *key*, and ABORTED ones that are older than a day."""
