"""What must hold of a log alone: I1, I8, I10, and that every entry follows from the one before."""

from __future__ import annotations

from collections.abc import Iterator

from aflamingock import Action, AuditEntry, AuditState, AuditType, TxStrategy
from aflamingock._plan.decision import is_applied, next_action

from .events import Appended, History

_MANUAL = (AuditState.MANUAL_MARKED_AS_APPLIED, AuditState.MANUAL_MARKED_AS_ROLLED_BACK)
_IN_DOUBT = (
    AuditState.STARTED,
    AuditState.FAILED,
    AuditState.ROLLBACK_STARTED,
    AuditState.ROLLBACK_FAILED,
)
_MAY_BE_ROLLED_BACK = (
    AuditState.APPLIED,
    AuditState.MANUAL_MARKED_AS_APPLIED,
    AuditState.ROLLBACK_STARTED,
    AuditState.ROLLBACK_FAILED,
)


def one_line(history: History) -> Iterator[str]:
    """I1: the numbers have no gaps, the epochs never fall, the digests fit."""
    epoch, digest = 0, ""
    ids: set[str] = set()
    for number, entry in enumerate(history.entries, 1):
        if entry.sequence != number:
            yield f"I1: entry {number} has the number {entry.sequence}"

        if entry.epoch < epoch:
            yield f"I1: {_told(entry)} of epoch {entry.epoch} follows epoch {epoch}"

        if entry.digest != entry.compute_digest(digest):
            yield f"I1: {_told(entry)} does not fit to the entry before it"

        if entry.entry_id in ids:
            yield f"I1: {_told(entry)} has the id of an entry before it"

        epoch, digest = max(epoch, entry.epoch), entry.digest
        ids.add(entry.entry_id)


def nothing_lost(history: History) -> Iterator[str]:
    """I8: what was acknowledged stands in the log, unchanged."""
    found = {entry.entry_id: (entry.sequence, entry.digest) for entry in history.entries}
    for event in history.events:
        if isinstance(event, Appended):
            stands = found.get(event.entry_id)
            if stands is None:
                yield f"I8: entry {event.sequence} of {event.runner} was acknowledged and is lost"
            elif stands != (event.sequence, event.digest):
                yield f"I8: entry {event.sequence} of {event.runner} was changed"


def in_order(history: History) -> Iterator[str]:
    """I10: no change begins before all before it in its stage are applied."""
    before = {id: stage[:place] for stage in history.stages for place, id in enumerate(stage)}
    last: dict[str, AuditEntry] = {}
    for entry in history.entries:
        if entry.change_id is None:
            if entry.type is AuditType.CHECKPOINT:
                left = [id for id in before if not is_applied(last.get(id))]
                if left:
                    yield f"I10: {_told(entry)} stands although {left[0]!r} is not applied"

            continue

        if entry.state is AuditState.STARTED:
            for id in before.get(entry.change_id, ()):
                if not is_applied(last.get(id)):
                    yield f"I10: {_told(entry)} stands before {id!r} is applied"

        last[entry.change_id] = entry


def each_follows(history: History) -> Iterator[str]:
    """
    I4, I5, I11: each entry about a change is one that may follow the one before it.

    What may be executed is what the planner itself says of the last entry.
    """
    last: dict[str, AuditEntry] = {}
    for entry in history.entries:
        if entry.change_id is None:
            continue

        before = last.get(entry.change_id)
        last[entry.change_id] = entry
        if entry.state is AuditState.STARTED:
            yield from _may_start(history, before, entry)
        elif before is None:
            yield f"I6: {_told(entry)} has no STARTED before it"
        elif not _may_follow(history, before, entry):
            yield f"I11: {_told(entry)} may not follow {_told(before)}"


def _may_start(history: History, before: AuditEntry | None, entry: AuditEntry) -> Iterator[str]:
    if entry.attempt != (before.attempt if before else 0) + 1:
        yield f"I1: {_told(entry)} is not the next attempt after {before and _told(before)}"

    action = next_action(
        before,
        has_verify=entry.change_id in history.verified,
        recovery=entry.recovery_strategy,
    )
    if action not in (Action.APPLY, Action.RESOLVE_MARKER, Action.VERIFY):
        assert before is not None
        rule = "I5" if before.tx_strategy is TxStrategy.NON_TX else "I4"
        yield f"{rule}: {_told(entry)} follows {_told(before)}, which asks for {action}"


def _may_follow(history: History, before: AuditEntry, entry: AuditEntry) -> bool:
    same_run = (before.execution_id, before.epoch) == (entry.execution_id, entry.epoch)
    resolution = entry.metadata.get("resolution")
    if before.attempt != entry.attempt:
        return False

    match entry.state:
        case AuditState.APPLIED:
            if resolution == "verify":
                return before.state in _IN_DOUBT and entry.change_id in history.verified

            return before.state is AuditState.STARTED and (same_run or resolution == "marker")
        case AuditState.FAILED:
            return before.state is AuditState.STARTED and same_run
        case AuditState.ROLLBACK_STARTED:
            failed = before.state is AuditState.FAILED and same_run
            return failed or before.state in _MAY_BE_ROLLED_BACK
        case AuditState.ROLLED_BACK:
            # a STARTED that is taken back at once was not begun
            opened = before.state in (AuditState.ROLLBACK_STARTED, AuditState.STARTED)
            marked = resolution == "marker" and before.state is AuditState.ROLLBACK_STARTED
            return marked or (opened and same_run)
        case AuditState.ROLLBACK_FAILED:
            opened = before.state is AuditState.ROLLBACK_STARTED
            return opened and (same_run or resolution == "marker")
        case _:
            return entry.state in _MANUAL and before.state in _IN_DOUBT


def _told(entry: AuditEntry) -> str:
    what = f"{entry.change_id} {entry.state}" if entry.change_id else str(entry.type)
    return f"entry {entry.sequence} ({what}, attempt {entry.attempt})"
