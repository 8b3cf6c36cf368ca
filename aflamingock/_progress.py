"""How far a run is, told by its events."""

from __future__ import annotations

from typing import Literal

from ._events import (
    ChangeApplied,
    ChangeStarted,
    Event,
    RunEnded,
    RunPlanned,
    RunStarted,
    WaitingForLease,
)
from ._report import Progress


class ProgressTracker:
    """Listens to every event of a Flamingock, and tells how far it is."""

    def __init__(self) -> None:
        self._state: Literal["idle", "waiting", "running", "done", "failed"] = "idle"
        self._done = 0
        self._total = 0
        self._change_id: str | None = None
        self._holder: str | None = None

    @property
    def progress(self) -> Progress:
        """How far it is now."""
        return Progress(
            state=self._state,
            done=self._done,
            total=self._total,
            change_id=self._change_id,
            holder=self._holder,
        )

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case RunStarted():
                self._state, self._done, self._total = "running", 0, 0
            case WaitingForLease():
                self._state, self._holder = "waiting", event.holder
            case RunPlanned():
                self._state, self._holder, self._total = "running", None, event.pending
            case ChangeStarted():
                self._change_id = event.change_id
            case ChangeApplied():
                self._done, self._change_id = self._done + 1, None
            case RunEnded():
                self._state = "failed" if event.error else "done"
                self._change_id = self._holder = None
            case _:
                pass

    def found_nothing_pending(self) -> None:
        """Take note that a look, without a run, has found everything applied."""
        self._state, self._done, self._total = "done", 0, 0
