"""How far a run is, told by its events."""

from __future__ import annotations

from dataclasses import replace

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
    """
    Listens to every event of a Flamingock.

    :ivar progress: how far it is
    """

    def __init__(self) -> None:
        self.progress = Progress()

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case RunStarted():
                self.progress = Progress(state="running")
            case WaitingForLease():
                self.progress = replace(self.progress, state="waiting", holder=event.holder)
            case RunPlanned():
                self.progress = Progress(state="running", total=event.pending)
            case ChangeStarted():
                self.progress = replace(self.progress, change_id=event.change_id)
            case ChangeApplied():
                self.progress = replace(self.progress, done=self.progress.done + 1, change_id=None)
            case RunEnded():
                ended = replace(self.progress, change_id=None, holder=None)
                self.progress = replace(ended, state="failed" if event.error else "done")
            case _:
                pass

    def found_nothing_pending(self) -> None:
        """Take note that a look, without a run, has found everything applied."""
        self.progress = Progress(state="done")
