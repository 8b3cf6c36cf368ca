"""An audit store in memory, for tests."""

from __future__ import annotations

import copy
import threading
import time
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from anyio.lowlevel import checkpoint

from .._records import AuditEntry, Issue, Record
from ..abc import AuditStore
from ..exceptions import SequenceConflictError

_BATCH = 200


class _Memory:
    """What several stores have in common; its lock is held for moments only."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self.logs: defaultdict[str, list[AuditEntry]] = defaultdict(list)
        self.records: dict[str, tuple[Record, float]] = {}
        self.issues: dict[tuple[str, str], Issue] = {}


class MemoryAuditStore(AuditStore[None]):
    """
    Keeps everything in this process, as long as the object lives.

    :param clock: gives the time in seconds by which records age
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._memory = _Memory(clock)

    def twin(self) -> MemoryAuditStore:
        """Return another store on the same memory, as another process would have it."""
        twin = MemoryAuditStore()
        twin._memory = self._memory
        return twin

    async def _connect(self, stack: AsyncExitStack) -> None:
        """Do nothing."""

    async def create(self) -> None:
        """Do nothing: memory needs no tables."""
        await checkpoint()

    async def verify_schema(self) -> list[str]:
        """Return nothing: memory needs no tables."""
        await checkpoint()
        return []

    def permissions(self) -> str:
        """Return that there is nothing to allow."""
        return "Memory needs no permissions."

    async def last(self, service: str, count: int) -> Sequence[AuditEntry]:
        """Return the last entries of a service, newest first."""
        await checkpoint()
        with self._memory.lock:
            log = self._memory.logs[service]
            return log[: -count - 1 : -1]

    async def entries(
        self, service: str, *, after: int = 0, brief: bool = False
    ) -> AsyncIterator[AuditEntry]:
        """Yield the entries of a service in the order of their numbers."""
        while batch := await self._batch(service, after):
            for entry in batch:
                yield replace(entry, error_trace=None) if brief else entry

            after = batch[-1].sequence

    async def _batch(self, service: str, after: int) -> Sequence[AuditEntry]:
        await checkpoint()
        with self._memory.lock:
            log = self._memory.logs[service]
            start = bisect_right(log, after, key=_sequence)
            return log[start : start + _BATCH]

    async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
        """
        Insert all of the entries, or none of them.

        :raises SequenceConflictError: if one of the numbers is taken
        """
        await checkpoint()
        with self._memory.lock:
            for entry in entries:
                log = self._memory.logs[entry.service]
                place = bisect_left(log, entry.sequence, key=_sequence)
                if place < len(log) and log[place].sequence == entry.sequence:
                    raise SequenceConflictError(entries[0].sequence)

            for entry in entries:
                log = self._memory.logs[entry.service]
                place = bisect_left(log, entry.sequence, key=_sequence)
                log.insert(place, entry)

    async def read_record(self, key: str) -> Record | None:
        """Return the record last written under *key*, with its age."""
        await checkpoint()
        with self._memory.lock:
            record, written_at = self._memory.records.get(key, (None, 0.0))
            age = self._memory.clock() - written_at

        return record and replace(record, value=copy.deepcopy(record.value), age=age)

    async def swap_record(self, current: Record | None, new: Record) -> bool:
        """Write the record *new* if *current* still stands."""
        await checkpoint()
        with self._memory.lock:
            standing, _ = self._memory.records.get(new.key, (None, 0.0))
            if (standing and standing.token) != (current and current.token):
                return False

            kept = replace(new, value=copy.deepcopy(new.value))
            self._memory.records[new.key] = (kept, self._memory.clock())
            return True

    async def save_issue(self, issue: Issue) -> None:
        """Insert the issue, or replace the one of the same service and id."""
        await checkpoint()
        with self._memory.lock:
            self._memory.issues[issue.service, issue.issue_id] = issue

    async def issues(self, service: str) -> Sequence[Issue]:
        """Return the kept issues of a service, oldest first."""
        await checkpoint()
        with self._memory.lock:
            found = [issue for issue in self._memory.issues.values() if issue.service == service]

        return sorted(found, key=lambda issue: (issue.created_at, issue.issue_id))

    @asynccontextmanager
    async def open_side_channel(self) -> AsyncIterator[AuditStore[Any]]:
        """Lend another store on the same memory."""
        async with self.twin() as twin:
            yield twin

    def __repr__(self) -> str:
        """Return the class."""
        return f"{type(self).__name__}()"


def _sequence(entry: AuditEntry) -> int:
    return entry.sequence
