"""Faults put into the engine, or into what it relies on, to see that the simulation finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from aflamingock import AuditEntry, AuditState
from aflamingock._audit.log import AuditLog
from aflamingock._lease import HeldLease
from aflamingock._lock.lock import Lock
from aflamingock._records import Record
from aflamingock._states import MarkerOutcome
from aflamingock.exceptions import SequenceConflictError

from .database import Database

Mutant = Sequence[tuple[type, str, Any]]


def _swap_whatever_stands() -> Mutant:
    swap = Database.swap

    def careless(self: Database, current: Record | None, new: Record) -> bool:
        standing = self.records.get(new.key)
        return swap(self, standing and standing[0], new)

    return [(Database, "swap", careless)]


def _append_at_the_end() -> Mutant:
    append = Database.append

    def careless(self: Database, entries: Sequence[AuditEntry]) -> None:
        first = max(self.log, default=0) + 1
        append(self, [replace(each, sequence=first + n) for n, each in enumerate(entries)])

    return [(Database, "append", careless)]


def _overwrite_entries() -> Mutant:
    def careless(self: Database, entries: Sequence[AuditEntry]) -> None:
        pass

    return [(Database, "_refuse_taken", careless)]


def _number_anew() -> Mutant:
    append = AuditLog.append

    async def careless(self: AuditLog, *entries: AuditEntry) -> tuple[AuditEntry, ...]:
        try:
            return await append(self, *entries)
        except SequenceConflictError:
            return await append(self, *entries)

    return [(AuditLog, "append", careless)]


def _no_epoch_check() -> Mutant:
    async def careless(self: AuditLog, wanted: Any = (), found: set[str] | None = None) -> None:
        async for entry in self._store.entries(self.service, after=self.history.sequence):
            self.history.add(entry)
            if found is not None and entry.entry_id in wanted:
                found.add(entry.entry_id)

    return [(AuditLog, "_read", careless)]


def _started_not_awaited() -> Mutant:
    append = AuditLog.append
    late: dict[int, list[AuditEntry]] = {}

    async def careless(self: AuditLog, *entries: AuditEntry) -> tuple[AuditEntry, ...]:
        if [entry.state for entry in entries] == [AuditState.STARTED]:
            late.setdefault(id(self), []).extend(entries)
            return entries

        waiting = late.pop(id(self), [])
        return (await append(self, *waiting, *entries))[len(waiting) :]

    return [(AuditLog, "append", careless)]


def _marker_not_claimed() -> Mutant:
    def careless(self: Database, key: str) -> MarkerOutcome:
        return self.markers.get(key, MarkerOutcome.ABORTED)

    return [(Database, "claim", careless)]


def _counted_from_the_reply() -> Mutant:
    init, renewed = HeldLease.__init__, HeldLease.renewed

    def careless_init(self: HeldLease, lease: Any, *, sent_at: float, clock: Any) -> None:
        init(self, lease, sent_at=clock(), clock=clock)

    def careless_renewed(self: HeldLease, lease: Any, *, sent_at: float) -> None:
        renewed(self, lease, sent_at=self._clock())

    return [(HeldLease, "__init__", careless_init), (HeldLease, "renewed", careless_renewed)]


def _lease_without_end() -> Mutant:
    return [
        (HeldLease, "stops_at", property(lambda self: self._sent_at + 1e6)),
        (HeldLease, "must_renew_by", property(lambda self: self._sent_at + 1e6)),
    ]


def _wall_clock_decides() -> Mutant:
    async def careless(self: Lock, lease: Any, *, watched: float) -> bool:
        return bool(lease.released) or watched > lease.ttl / 2

    return [(Lock, "_may_take", careless)]


MUTANTS: Mapping[str, Callable[[], Mutant]] = {
    "no owner check in a swap": _swap_whatever_stands,
    "no compare-and-append": _append_at_the_end,
    "entries are overwritten": _overwrite_entries,
    "a refused entry is numbered anew": _number_anew,
    "no epoch check": _no_epoch_check,
    "STARTED is not awaited": _started_not_awaited,
    "a marker is not claimed": _marker_not_claimed,
    "the deadline counts from the reply": _counted_from_the_reply,
    "a lease has no end": _lease_without_end,
    "a lease is taken over too early": _wall_clock_decides,
}


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Let the engine have a fault while the block runs."""
    patches = [patch.object(*each) for each in MUTANTS[name]()]
    for each in patches:
        each.start()

    try:
        yield
    finally:
        for each in reversed(patches):
            each.stop()
