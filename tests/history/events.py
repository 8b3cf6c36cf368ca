"""
What happened to a service: the events that a test records, and the history that they make up.

All times are seconds on one clock that every runner shares: the boot-time clock of the machine,
or the true time of a simulation. A runner is one process, or one simulated process, under a name
that no other one ever had.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from aflamingock import AuditEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """
    A coroutine of a change was called, and what became of the call.

    Recorded by the change itself: first thing, and last thing. A change in a transaction records
    its calls outside of that transaction.
    """

    time: float
    runner: str
    change_id: str
    method: Literal["execute", "rollback"]
    step: Literal["began", "ended", "raised"]
    attempt: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """
    A runner knows that it holds the lease.

    :ivar sent_at: when the request was sent
    :ivar until: when the right to work ends by the runner's own reckoning
    """

    time: float
    runner: str
    epoch: int
    sent_at: float
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """A runner knows that its lease was renewed, and that it may work until *until*."""

    time: float
    runner: str
    epoch: int
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A runner is about to give its lease back: the request has not been sent yet."""

    time: float
    runner: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """The store has acknowledged an entry to a runner; in a transaction: its commit."""

    time: float
    runner: str
    entry_id: str
    sequence: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """
    A run has come to its end by itself.

    :ivar error: the name of the exception's class, if there was one
    :ivar text: what the exception says, with its causes
    :ivar is_public: whether the exception is one of aflamingock's, or a cancellation
    """

    time: float
    runner: str
    error: str | None = None
    text: str = ""
    is_public: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Died:
    """A runner was killed; recorded just before, so that nothing of it comes later."""

    time: float
    runner: str


Event = Called | Granted | Renewed | Released | Appended | Ended | Died

_KINDS = {kind.__name__: kind for kind in Event.__args__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What a call in a transaction has left behind, written by that transaction."""

    change_id: str
    method: Literal["execute", "rollback"]
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """
    Everything that is known after a test.

    :ivar stages: the ids of the changes of each stage, in their order
    :ivar entries: the whole log, read again at the end
    :ivar events: in any order
    :ivar commits: what changes in transactions have left in their target, oldest first
    :ivar verified: the ids of the changes that have a ``verify``
    :ivar pauses_are_bounded: whether no runner was stopped beyond the end of its lease
    :ivar clocks_agree: whether no clock ran more than half as fast again as another
    :ivar is_over: whether a run without faults came last, and was waited for
    :ivar calm_since: when the last fault ended; with *progress_within*, by when a run must have
        come to its end
    :ivar secrets: what must stand in no text
    :ivar texts: more texts that were seen, as the lines of logs
    """

    stages: Sequence[Sequence[str]]
    entries: Sequence[AuditEntry]
    events: Sequence[Event] = ()
    commits: Sequence[Commit] = ()
    verified: frozenset[str] = frozenset()
    pauses_are_bounded: bool = True
    clocks_agree: bool = True
    is_over: bool = True
    calm_since: float | None = None
    progress_within: float | None = None
    secrets: Sequence[str] = ()
    texts: Sequence[str] = ()


def to_line(event: Event) -> str:
    """Return an event as a line of JSON, which a process can append to a file in one write."""
    return json.dumps({"kind": type(event).__name__, **asdict(event)}) + "\n"


def from_line(line: str) -> Event:
    """Restore an event from :func:`to_line`."""
    values = json.loads(line)
    event: Event = _KINDS[values.pop("kind")](**values)
    return event
