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
from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

import anyio

from ._records import AuditEntry, Issue, Record
from ._states import MarkerOutcome
from .exceptions import ConfigurationError

SessionT = TypeVar("SessionT")

_CLOSING_TIME = 10.0


class Resource(ABC):
    """
    Something that is opened before use and closed after, any number of times at once.

    Opens are counted: the first one connects, the last close disconnects. A resource closes what
    it has opened itself, never a client that was handed to it. It belongs to one event loop as
    long as it is open.
    """

    def __init__(self) -> None:
        self._users = 0
        self._gate = anyio.Lock()
        self._stack = AsyncExitStack()
        self._loop: AbstractEventLoop | None = None

    async def open(self) -> None:
        """
        Open the resource, or count one more user of it.

        :raises ConfigurationError: if it is open in another event loop
        """
        self._check_loop()
        async with self._gate:
            if self._users == 0:
                async with AsyncExitStack() as stack:
                    await self._connect(stack)
                    self._stack = stack.pop_all()

                self._loop = get_running_loop()

            self._users += 1

    async def aclose(self) -> None:
        """Close the resource if this was its last user; not cut off by a cancellation."""
        with anyio.move_on_after(_CLOSING_TIME, shield=True):
            async with self._gate:
                self._users -= 1
                if self._users == 0:
                    self._loop = None
                    await self._stack.aclose()

    @abstractmethod
    async def _connect(self, stack: AsyncExitStack) -> None:
        """
        Connect, and push onto *stack* what closes the connection.

        Nothing is created here that would outlast the connection.
        """

    def _check_loop(self) -> None:
        if self._users and self._loop is not get_running_loop():
            raise ConfigurationError(
                f"{self!r} is open in another event loop. Close it there first, or make one "
                "for each loop."
            )

    async def __aenter__(self) -> Self:
        """Open the resource."""
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the resource."""
        await self.aclose()


class AuditStore(Resource, Generic[SessionT]):
    """
    Keeps the log, the records and the issues of any number of services, and no more.

    Opening creates nothing. Where a table is missing, reads find nothing, and the caller calls
    :meth:`create` before it writes. Every method raises :exc:`AuditStoreConnectionError` or
    :exc:`SystemBusyError` if surely nothing was done (the caller tries again), and
    :exc:`UnknownOutcomeError` if a write may have been done (the caller looks).

    :cvar exclusive_transactions: while a transaction shared with a target system is open, the
        store cannot write outside of it
    :cvar single_host: all who use the store run on one host, so that a holder of the lease whose
        process is gone can be told from one that is slow
    """

    exclusive_transactions: ClassVar[bool] = False
    single_host: ClassVar[bool] = False

    @abstractmethod
    async def create(self) -> None:
        """
        Create the tables, collections and indexes that are missing.

        Idempotent, and safe when many instances do it at once.
        """

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

    def shares(self, target: TargetSystem) -> bool:
        """Say whether entries can be written within a transaction of *target*."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """
    Something that a target system gives to the coroutines of changes.

    :ivar names: the parameter names that mean it where there is no annotation; the first is its
        key among the target's objects
    :ivar type: what an annotation must name
    """

    names: tuple[str, ...]
    type: type


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
    """A target system that can run a change in a transaction."""

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

    @abstractmethod
    def objects(self, session: SessionT) -> Mapping[str, object]:
        """Return the objects of the offers, by their first names, bound to a transaction."""

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
