"""What must hold of the lease: I2, I3, I7's second half, I9."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from .events import Called, Died, Ended, Granted, History, Released, Renewed

_SETTLED = (None, "ManualInterventionError")


@dataclass(slots=True)
class Tenure:
    """The time for which one runner believes that it holds the lease."""

    runner: str
    epoch: int
    sent_at: float
    begins: float
    ends: float


def tenures(history: History) -> list[Tenure]:
    """Return who has believed to hold the lease, and when."""
    found: dict[tuple[str, int], Tenure] = {}
    for event in sorted(history.events, key=lambda event: event.time):
        match event:
            case Granted(time=time, runner=runner, epoch=epoch):
                tenure = Tenure(runner, epoch, event.sent_at, time, event.until)
                found.setdefault((runner, epoch), tenure)
            case Renewed(runner=runner, epoch=epoch) if (runner, epoch) in found:
                found[runner, epoch].ends = event.until
            case Released(time=time, runner=runner, epoch=epoch) if (runner, epoch) in found:
                found[runner, epoch].ends = min(found[runner, epoch].ends, time)
            case Died(time=time, runner=runner):
                for tenure in found.values():
                    if tenure.runner == runner:
                        tenure.ends = min(tenure.ends, time)
            case _:
                pass

    return list(found.values())


def one_grant_per_epoch(history: History) -> Iterator[str]:
    """I2: an epoch is granted once, and later grants have higher ones."""
    for first, second in combinations(tenures(history), 2):
        if first.epoch == second.epoch:
            yield f"I2: epoch {first.epoch} was granted to {first.runner} and {second.runner}"

        for one, other in ((first, second), (second, first)):
            if one.begins < other.sent_at and one.epoch > other.epoch:
                yield f"I2: epoch {other.epoch} was granted after epoch {one.epoch}"


def one_holder(history: History) -> Iterator[str]:
    """I3: no two runners believe at the same time that they hold the lease."""
    if not history.clocks_agree:
        return

    for first, second in combinations(tenures(history), 2):
        overlap = min(first.ends, second.ends) - max(first.begins, second.begins)
        if overlap > 0:
            yield (
                f"I3: {first.runner} (epoch {first.epoch}) and {second.runner} "
                f"(epoch {second.epoch}) held the lease together for {overlap:.3f} s"
            )


def worked_under_lease(history: History) -> Iterator[str]:
    """I7: a call begins while its runner holds the lease that it names."""
    held = {(tenure.runner, tenure.epoch): tenure for tenure in tenures(history)}
    for event in history.events:
        if not isinstance(event, Called) or event.step != "began" or not held:
            continue

        tenure = held.get((event.runner, event.epoch))
        told = f"I7: {event.runner} began to {event.method} {event.change_id!r}"
        if tenure is None:
            yield f"{told} without the lease of epoch {event.epoch}"
        elif history.pauses_are_bounded and not tenure.begins <= event.time <= tenure.ends:
            yield f"{told} {event.time - tenure.ends:.3f} s after the end of its lease"


def progress(history: History) -> Iterator[str]:
    """I9: once the faults have ended, a run comes to its end in time."""
    ends = [event for event in history.events if isinstance(event, Ended)]
    if history.calm_since is not None and history.progress_within is not None:
        first, last = history.calm_since, history.calm_since + history.progress_within
        if not any(first <= end.time <= last and end.error in _SETTLED for end in ends):
            yield f"I9: no run has come to its end within {history.progress_within:g} s of calm"
    elif history.is_over and ends:
        last_end = max(ends, key=lambda end: end.time)
        if last_end.error not in _SETTLED:
            yield f"I9: the last run was ended by {last_end.error}: {last_end.text[:200]}"
