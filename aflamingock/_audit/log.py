"""The audit log: what it knows of the past, and how it grows."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio

from .._events import AuditWriteEvent, Listeners
from .._host import boot_time
from .._lease import HeldLease
from .._options import AuditOptions
from .._records import AuditEntry
from .._retry import ANSWERS_WITHIN, Patience, answered, unanswered
from ..abc import AuditStore
from ..exceptions import AuditStoreError, SequenceConflictError, UnknownOutcomeError
from .history import TAIL, History

logger = logging.getLogger(__name__)

_LOOK_AGAIN_AFTER = 0.25
_READ_AT_LEAST = 100  # entries, in the time for one answer


@dataclass(slots=True, eq=False)
class _Ticket:
    """Entries that somebody wants to have written, and what became of them."""

    wanted: Sequence[AuditEntry]
    written: tuple[AuditEntry, ...] = ()
    error: Exception | None = None
    is_done: bool = False


class AuditLog:
    """
    Reads a service's log, and appends to it by compare-and-append.

    An entry is written at the number after the last one that was read, and nowhere else, so that
    the log is a fence: who has lost the lease without knowing collides with the successor's
    entries instead of writing a second history (Lamport's and Chubby's sequencers, Temporal's
    range ids).

    Coroutines of one run append at the same time; what waits while one call is under way is
    written together by the next (group commit).

    :param patience: how to try again what surely was not done
    :param options: how entries are written
    """

    def __init__(
        self,
        store: AuditStore[Any],
        *,
        service: str,
        execution_id: str,
        patience: Patience,
        options: AuditOptions | None = None,
        listeners: Listeners | None = None,
    ) -> None:
        self.service = service
        self.history = History()
        self._store = store
        self._execution_id = execution_id
        self._patience = patience
        self._options = options or AuditOptions()
        self._listeners = listeners or Listeners()
        self._lease: HeldLease | None = None
        self._turn = anyio.Lock(fast_acquire=True)
        self._waiting: list[_Ticket] = []

    async def tail(self) -> Sequence[AuditEntry]:
        """Return the last few entries, newest first, in one read."""
        return await self._patience(
            lambda: answered(lambda: self._store.last(self.service, TAIL), by=self._store)
        )

    async def read(self) -> None:
        """
        Read what the log has grown by since it was last read.

        :raises LockLostError: if an entry was written under a later lease
        """
        async with self._turn:
            await self._patience(self._read, check=self._deadline)

    async def entry(self, sequence: int) -> AuditEntry:
        """Return the entry with a number that was read, with its error trace."""
        found = self._store.entries(self.service, after=sequence - 1)
        entry = await answered(partial(_first, found), by=self._store, within=self._limit())
        if entry is not None:
            return entry

        raise AuditStoreError(
            f"Audit entry {sequence} of service {self.service!r} has disappeared from "
            f"{self._store!r}."
        )

    def work_under(self, lease: HeldLease) -> None:
        """Append under *lease* from now on: with its epoch, and never after its end."""
        self._lease = lease

    async def append(self, *entries: AuditEntry) -> tuple[AuditEntry, ...]:
        """
        Append entries one after the other; not cut off by a cancellation.

        An answer that was lost is looked up: the entries have ids, and a second writing at the
        same numbers can only be refused.

        :return: the entries as they were written
        :raises SequenceConflictError: if somebody else wrote first; the history is up to date then
        :raises LockLostError: if the lease has ended, or another run has worked under a later one
        """
        ticket = _Ticket(entries)
        self._waiting.append(ticket)
        with anyio.CancelScope(shield=True):
            async with self._turn:
                events = []
                while not ticket.is_done:
                    events.append(await self._write_next(ticket))

            for event in events:
                await self._listeners.emit(event)

        if ticket.error is not None:
            raise ticket.error

        return ticket.written

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Keep everybody else in this process from appending while the block runs."""
        async with self._turn:
            yield

    async def append_within(self, session: Any, entry: AuditEntry) -> AuditEntry:
        """
        Append an entry as part of a target system's transaction; the caller has the turn.

        :param session: the transaction
        :return: the entry as it was written; :meth:`confirm` it once it is committed
        """
        numbered = self._number([entry])
        await self._store.append(numbered, session=session)
        return numbered[0]

    def confirm(self, entry: AuditEntry) -> None:
        """Take note that the transaction of *entry* was committed."""
        self.history.add(entry)

    async def _read(self, wanted: Collection[str] = (), found: set[str] | None = None) -> None:
        after = self.history.sequence
        with anyio.move_on_after(self._limit()) as scope:
            async for entry in self._store.entries(self.service, after=after, brief=True):
                if self._lease is not None and entry.epoch > self._lease.epoch:
                    self._lease.lose(f"was followed by epoch {entry.epoch} in the audit log")
                    raise self._lease.error()

                self.history.add(entry)
                if found is not None and entry.entry_id in wanted:
                    found.add(entry.entry_id)

                if entry.sequence % _READ_AT_LEAST == 0:  # it answers: the time begins anew
                    scope.deadline = anyio.current_time() + self._limit()

        if scope.cancelled_caught:
            raise unanswered(self._store, ANSWERS_WITHIN)

    def _number(self, entries: Sequence[AuditEntry]) -> list[AuditEntry]:
        if self._lease is not None:
            self._lease.check()

        numbered = []
        sequence, digest = self.history.sequence, self.history.digest
        for entry in entries:
            sequence += 1
            sealed = entry.sealed(
                sequence=sequence, previous=digest, epoch=self._lease.epoch if self._lease else None
            )
            digest = sealed.digest
            numbered.append(sealed)

        return numbered

    def _limit(self) -> float:
        """Return for how long to wait for an answer of the store."""
        return min(ANSWERS_WITHIN, self._lease.remaining) if self._lease else ANSWERS_WITHIN

    @property
    def _deadline(self) -> Callable[[], None] | None:
        return self._lease.check if self._lease else None

    async def _write_next(self, own: _Ticket) -> AuditWriteEvent:
        """Write the entries that have waited longest, as many as go together."""
        group = [self._waiting.pop(0)]
        if self._options.async_writes:
            size = len(group[0].wanted)
            while self._waiting and size + len(self._waiting[0].wanted) <= self._options.batch_size:
                group.append(self._waiting.pop(0))
                size += len(group[-1].wanted)

        try:
            return await self._write(group)
        except BaseException:  # cut off: the others write their entries themselves
            left = [other for other in group if not (other is own or other.is_done)]
            self._waiting = left + self._waiting
            raise

    async def _write(self, group: Sequence[_Ticket]) -> AuditWriteEvent:
        started = boot_time()
        error: Exception | None = None
        stands: set[str] = set()
        numbered: list[AuditEntry] = []
        try:
            numbered = self._number([entry for ticket in group for entry in ticket.wanted])
            stands = await self._write_surely(numbered)
        except Exception as exc:  # handed to everybody whose entries were in the group
            error = exc

        _settle(group, numbered, stands, error)
        return AuditWriteEvent(
            service=self.service,
            execution_id=self._execution_id,
            count=len(numbered),
            duration=boot_time() - started,
            failed=any(ticket.error for ticket in group),
        )

    async def _write_surely(self, numbered: Sequence[AuditEntry]) -> set[str]:
        started = boot_time()
        done: set[str] = set()
        while True:
            try:
                await self._patience(partial(self._write_once, numbered), check=self._deadline)
            except SequenceConflictError:
                found = await self._read_which(numbered)
                done |= found
                rest = [entry for entry in numbered if entry.entry_id not in done]
                if not found or not rest or self.history.sequence >= rest[0].sequence:
                    return done

                # an earlier try was cut off in the middle, and what is left still fits
                numbered = rest
            except UnknownOutcomeError as exc:
                if self._lease is None and boot_time() - started > ANSWERS_WITHIN:
                    raise

                logger.warning("The answer to an append was lost, it is tried again: %s", exc)
                await anyio.sleep(_LOOK_AGAIN_AFTER)
            else:
                for entry in numbered:
                    self.history.add(entry)

                return done | {entry.entry_id for entry in numbered}

    async def _read_which(self, numbered: Sequence[AuditEntry]) -> set[str]:
        """Read on, and return the ids of those of the entries that turn out to be written."""
        wanted = {entry.entry_id for entry in numbered}
        found: set[str] = set()
        await self._patience(lambda: self._read(wanted, found), check=self._deadline)
        return found

    async def _write_once(self, numbered: Sequence[AuditEntry]) -> None:
        await answered(
            lambda: self._store.append(numbered),
            by=self._store,
            writes=True,
            within=self._limit(),
        )


async def _first(entries: AsyncIterator[AuditEntry]) -> AuditEntry | None:
    return await anext(entries, None)


def _settle(
    group: Sequence[_Ticket],
    numbered: Sequence[AuditEntry],
    stands: set[str],
    error: Exception | None,
) -> None:
    remaining = iter(numbered)
    for ticket in group:
        ticket.is_done = True
        ticket.error = error
        if error is not None:
            continue

        ticket.written = tuple(next(remaining) for _ in ticket.wanted)
        for entry in ticket.written:
            if entry.entry_id not in stands:
                ticket.error = SequenceConflictError(entry.sequence, state=entry.state)
                break
