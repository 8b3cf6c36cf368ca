"""What is shown on the error stream while a run is at work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from .._events import (
    ChangeApplied,
    ChangeEvent,
    ChangeRolledBack,
    ChangeStarted,
    Event,
    RunPlanned,
    WaitingForLease,
)
from ._output import cell

Tell = Callable[[Event], None]


@contextmanager
def progress(*, quiet: bool) -> Iterator[Tell]:
    """
    Yield a listener that shows a run: a bar on a terminal, else a line for each event.

    :param quiet: show only on whom the run waits
    """
    if quiet or not sys.stderr.isatty():
        yield lambda event: _print_line(event, quiet=quiet)
        return

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar).tell


class _Bar:
    """A progress bar that is moved by events."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("looking for pending changes", total=None)

    def tell(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, RunPlanned):
            self._bar.update(self._task, total=event.pending, description="")
        elif isinstance(event, ChangeApplied | ChangeRolledBack):
            self._bar.advance(self._task)

        said = _said(event)
        if said is None:
            return

        if isinstance(event, ChangeStarted | WaitingForLease):
            self._bar.update(self._task, description=said)
        else:
            self._bar.console.print(Text(said), soft_wrap=True)


def _print_line(event: Event, *, quiet: bool) -> None:
    said = _said(event)
    if said is not None and (isinstance(event, WaitingForLease) or not quiet):
        print(said, file=sys.stderr, flush=True)


def _said(event: Event) -> str | None:
    if isinstance(event, WaitingForLease):
        long = f" for {event.waited:.0f} s" if event.waited >= 1 else ""
        return f"waiting{long}: the lease is held by {cell(event.holder)}"

    if not isinstance(event, ChangeEvent):
        return None

    change = f"{cell(event.stage)}/{cell(event.change_id)}"
    match event:
        case ChangeStarted():
            attempt = f" (attempt {event.attempt})" if event.attempt > 1 else ""
            return f"{change}: started{attempt}"
        case ChangeApplied():
            return f"{change}: applied in {event.duration:.2f} s"
        case ChangeRolledBack():
            return f"{change}: rolled back"
        case _:  # what has failed, the log tells
            return None
