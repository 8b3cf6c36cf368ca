"""The events of a run, and those who listen to them."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio

from ._payload import error_trace
from .exceptions import ConfigurationError

logger = logging.getLogger(__name__)

_LISTENING_TIME = 5.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Event:
    """
    Something that happened in a run.

    :ivar service: the service that was run
    :ivar execution_id: the run
    """

    service: str
    execution_id: str


class RunStarted(Event):
    """A run looks for pending changes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WaitingForLease(Event):
    """Another runner holds the lease; sent once, and again every ten seconds."""

    holder: str
    waited: float


@dataclass(frozen=True, kw_only=True, eq=False)
class RunPlanned(Event):
    """A run has decided what to do: *pending* changes, under the lease."""

    pending: int


@dataclass(frozen=True, kw_only=True, eq=False)
class RunEnded(Event):
    """A run is over; *error* ended it, if anything did."""

    error: BaseException | None = field(repr=False)
    duration: float


@dataclass(frozen=True, kw_only=True, eq=False)
class StageEvent(Event):
    """Something that happened to a stage."""

    stage: str


class StageStarted(StageEvent):
    """The first change of a stage is about to be carried out."""


class StageCompleted(StageEvent):
    """Every change of a stage is applied."""


class StageFailed(StageEvent):
    """A stage was ended by a failed change or by one that needs a person."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ChangeEvent(Event):
    """Something that happened to a change."""

    stage: str
    change_id: str
    attempt: int


class ChangeStarted(ChangeEvent):
    """STARTED is durable; the change is about to run."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ChangeApplied(ChangeEvent):
    """APPLIED is durable."""

    duration: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ChangeFailed(ChangeEvent):
    """A change raised *error*."""

    error: BaseException = field(repr=False)


class ChangeRolledBack(ChangeEvent):
    """ROLLED_BACK is durable."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ChangeRollbackFailed(ChangeEvent):
    """The rollback of a change raised *error*."""

    error: BaseException = field(repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class AuditWriteEvent(Event):
    """
    Entries were written to the audit store, or could not be.

    :ivar count: how many entries
    :ivar duration: seconds
    """

    count: int
    duration: float
    failed: bool


class Listeners:
    """
    Tell listeners of events.

    A listener that raises, or takes longer than five seconds, is warned of once; it never
    disturbs a run.
    """

    def __init__(self) -> None:
        self._listeners: list[tuple[type[Event], Callable[[Any], object]]] = []
        self._warned: set[int] = set()

    def add(self, kind: type[Event], listener: Callable[[Any], object]) -> None:
        """
        Call *listener* with every event of a kind.

        :param kind: the class of the events; its subclasses are meant as well
        :param listener: a function or a coroutine function of one argument
        :raises ConfigurationError: if *kind* is no class of events, or *listener* no function
        """
        given: Any = kind
        if not (isinstance(given, type) and issubclass(given, Event) and callable(listener)):
            raise ConfigurationError(
                f"A listener {listener!r} of {kind!r}: give a class of events, such as "
                "ChangeApplied, and a function of one argument."
            )

        self._listeners.append((kind, listener))

    async def emit(self, event: Event) -> None:
        """Tell all who listen to *event*, one after the other."""
        for kind, listener in self._listeners:
            if isinstance(event, kind):
                await self._tell(listener, event)

    async def _tell(self, listener: Callable[[Any], object], event: Event) -> None:
        try:
            answer = listener(event)
            if inspect.isawaitable(answer):
                with anyio.fail_after(_LISTENING_TIME, shield=True):
                    await answer
        except Exception as exc:  # a listener is a guest: what it does must not end the run
            if id(listener) not in self._warned:
                self._warned.add(id(listener))
                logger.warning(
                    "Listener %r failed on %s; the run goes on, and further failures of it "
                    "are not shown. %s",
                    listener,
                    type(event).__name__,
                    error_trace(exc),
                )
