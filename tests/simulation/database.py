"""A simulated database server: entries, records, markers, effects and transactions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as with_values

from aflamingock import AuditEntry
from aflamingock._records import Issue, Record
from aflamingock._states import MarkerOutcome
from aflamingock.exceptions import AuditStoreError, LockLostError, SequenceConflictError

from ..history.events import Commit
from .network import LockedError
from .process import Process
from .world import World


class EndedError(Exception):
    """The server has ended a transaction: nothing of it stands, nor ever will."""


@dataclass(eq=False)
class Transaction:
    """A transaction on the server, which outlives the process that began it."""

    owner: Process
    effects: list[tuple[str, int, int]] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    entries: list[AuditEntry] = field(default_factory=list)
    markers: dict[str, str] = field(default_factory=dict)
    used_at: float = 0.0
    is_open: bool = True
    is_committed: bool = False


class Database:
    """
    One server. Its methods are atomic, and do not know who waits for the answer.

    :ivar locking: whether what a transaction writes is locked until its end (SQL), or compared
        at its commit (DynamoDB)
    :ivar exclusive: whether only one transaction writes at a time (SQLite)
    :ivar atomic: whether a batch of entries is written as a whole or in order
    :ivar has_clock: whether records have an age
    :ivar effects: how often each step of each change stands
    """

    def __init__(self, world: World, name: str) -> None:
        draw = world.random
        self.world = world
        self.name = name
        self.locking = draw.random() < 0.7
        self.exclusive = self.locking and draw.random() < 0.25
        self.atomic = draw.random() < 0.7
        self.has_clock = draw.random() < 0.7
        self.clock_rate = 1.0
        self.clock_offset = 0.0
        self.is_created = False
        self.log: dict[int, AuditEntry] = {}
        self.records: dict[str, tuple[Record, float]] = {}
        self.issues: dict[str, Issue] = {}
        self.markers: dict[str, MarkerOutcome] = {}
        self.effects: Counter[tuple[str, int]] = Counter()
        self.commits: list[Commit] = []
        self.transactions: list[Transaction] = []

    def clock(self) -> float:
        """Return the server's time."""
        return self.clock_offset + self.clock_rate * self.world.now

    def step_clock(self, seconds: float) -> None:
        """Let the server's clock step."""
        self.clock_offset += seconds
        self.world.note(self.name, "clock", seconds)

    def create(self) -> None:
        """Create the tables."""
        self.is_created = True

    def read(self, after: int, count: int) -> Sequence[AuditEntry]:
        """Return entries in the order of their numbers."""
        numbers = sorted(number for number in self.log if number > after)[:count]
        return [self.log[number] for number in numbers]

    def last(self, count: int) -> Sequence[AuditEntry]:
        """Return the last entries, newest first."""
        return [self.log[number] for number in sorted(self.log, reverse=True)[:count]]

    def append(self, entries: Sequence[AuditEntry]) -> None:
        """Insert entries, all of them or, where that is all that the server can, a prefix."""
        self._require_tables()
        self._wait_for(None, *(("entry", entry.sequence) for entry in entries))
        if self.atomic:
            self._refuse_taken(entries)

        for entry in entries:
            self._refuse_taken([entry])
            self._insert(entry)

    def swap(self, current: Record | None, new: Record) -> bool:
        """Replace a record that has not changed."""
        self._require_tables()
        standing = self.records.get(new.key)
        if (standing and standing[0].token) != (current and current.token):
            return False

        self.records[new.key] = with_values(new, age=None), self.clock()
        self.world.note(self.name, "record", new.key, new.value.get("epoch"), new.value)
        return True

    def record(self, key: str) -> Record | None:
        """Return a record with its age."""
        record, written_at = self.records.get(key, (None, 0.0))
        age = self.clock() - written_at if self.has_clock else None
        return record and with_values(record, age=age)

    def save_issue(self, issue: Issue) -> None:
        """Keep an issue."""
        self._require_tables()
        self._wait_for(None)
        self.issues[issue.issue_id] = issue

    def begin(self, owner: Process) -> Transaction:
        """Begin a transaction."""
        if self.exclusive:
            self._wait_for(None)

        transaction = Transaction(owner, used_at=self.world.now)
        self.transactions.append(transaction)
        return transaction

    def write(self, within: Transaction, change_id: str, step: int, count: int) -> None:
        """Let an effect of a change be part of a transaction."""
        self._require_open(within)
        within.effects.append((change_id, step, count))

    def append_within(self, within: Transaction, entries: Sequence[AuditEntry]) -> None:
        """Let entries be part of a transaction."""
        self._require_open(within)
        self._require_tables()
        self._wait_for(within, *(("entry", entry.sequence) for entry in entries))
        self._refuse_taken(entries)
        known = {entry.entry_id for entry in within.entries}
        within.entries.extend(entry for entry in entries if entry.entry_id not in known)

    def mark(self, within: Transaction, key: str, change_id: str) -> None:
        """Let a marker be part of a transaction."""
        self._require_open(within)
        self._wait_for(within, ("marker", key))
        self._refuse_claimed([key])
        within.markers[key] = change_id

    def commit(self, within: Transaction) -> None:
        """Commit a transaction; once more does nothing."""
        if within.is_committed:
            return

        self._require_open(within)
        within.is_open = False
        self._refuse_taken(within.entries)
        self._refuse_claimed(within.markers)
        within.is_committed = True
        for entry in within.entries:
            self._insert(entry)

        for key in within.markers:
            self.markers[key] = MarkerOutcome.COMMITTED

        for change_id, step, count in within.effects:
            self.effects[change_id, step] += count

        self.commits.extend(within.commits)
        self.world.note(within.owner, "committed", [str(commit) for commit in within.commits])

    def abort(self, within: Transaction) -> None:
        """End a transaction of which nothing is to stand."""
        within.is_open = False

    def claim(self, key: str) -> MarkerOutcome:
        """Insert a marker as ABORTED if there is none."""
        self._wait_for(None, ("marker", key))
        return self.markers.setdefault(key, MarkerOutcome.ABORTED)

    def remove_marker(self, key: str) -> None:
        """Remove a marker."""
        self._wait_for(None, ("marker", key))
        self.markers.pop(key, None)

    def _insert(self, entry: AuditEntry) -> None:
        self.log[entry.sequence] = entry
        told = (entry.epoch, entry.change_id, entry.state, entry.attempt, entry.execution_id[:6])
        self.world.note(self.name, "entry", entry.sequence, *map(str, told))

    def _refuse_taken(self, entries: Sequence[AuditEntry]) -> None:
        for entry in entries:
            if entry.sequence in self.log:
                raise SequenceConflictError(entry.sequence)

    def _refuse_claimed(self, keys: Sequence[str] | dict[str, str]) -> None:
        for key in keys:
            if key in self.markers:
                raise LockLostError("Another runner has claimed this marker.")

    def _require_tables(self) -> None:
        if not self.is_created:
            raise AuditStoreError("There is no table.")

    def _require_open(self, transaction: Transaction) -> None:
        if not transaction.is_open:
            raise EndedError("The transaction was ended by the server.")

        transaction.used_at = self.world.now

    def _wait_for(self, own: Transaction | None, *keys: Hashable) -> None:
        for other in self.transactions:
            if not other.is_open or other is own:
                continue

            if self.exclusive:
                raise LockedError("the database is locked")

            if self.locking:
                held: set[Hashable] = {("entry", entry.sequence) for entry in other.entries}
                held |= {("marker", key) for key in other.markers}
                if held.intersection(keys):
                    raise LockedError("a row is locked")
