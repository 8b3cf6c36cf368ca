"""Which changes to undo. A pure function of the pipeline and the history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from .._change import Change
from .._pipeline import Pipeline
from .._records import AuditEntry
from ..exceptions import ConfigurationError
from .decision import is_applied


def plan_undo(
    pipeline: Pipeline,
    last: Mapping[str, AuditEntry],
    *,
    applied: Mapping[str, AuditEntry] | None = None,
    count: int | None = None,
    to: str | None = None,
    since: datetime | None = None,
    change_id: str | None = None,
) -> tuple[Change, ...]:
    """
    Choose the changes to undo, newest first.

    :param last: the last entry of each change, by its id
    :param applied: the entry by which each was applied, if something may have come after it
    :param count: the last so many applied changes
    :param to: all that were applied after this change
    :param since: all that were applied at this time or later
    :param change_id: this change alone
    :raises ConfigurationError: if one of them cannot be undone; names every such change
    """
    when = {id: (applied or last)[id] for id, entry in last.items() if is_applied(entry)}
    newest = sorted(when.values(), key=lambda entry: -entry.sequence)
    if count is not None:
        chosen = newest[:count]
    elif since is not None:
        chosen = [entry for entry in newest if entry.created_at >= since]
    else:
        _check_applied(last, to or change_id or "")
        named = when[to or change_id or ""]
        chosen = [named] if change_id else [e for e in newest if e.sequence > named.sequence]

    ids = [entry.change_id or "" for entry in chosen]
    faults = list(_undo_faults(pipeline, last, ids))
    if faults:
        raise ConfigurationError.joining(faults)

    return tuple(change for id in ids if (change := pipeline.find(id)) is not None)


def _check_applied(last: Mapping[str, AuditEntry], id: str) -> None:
    entry = last.get(id)
    if entry is None or not is_applied(entry):
        state = f"its state is {entry.state}" if entry else "the audit log does not know it"
        raise ConfigurationError(
            f"Change {id!r} is not applied ({state}). See 'aflamingock audit list'."
        )


def _undo_faults(
    pipeline: Pipeline, last: Mapping[str, AuditEntry], ids: Sequence[str]
) -> Iterator[ConfigurationError]:
    chosen = set(ids)
    for id in ids:
        change = pipeline.find(id)
        if change is None:
            yield ConfigurationError(
                f"Change {id!r} cannot be undone: it is gone from the code, or left out by the "
                "profiles."
            )
        elif not change.has_rollback:
            yield ConfigurationError(
                f"Change {id!r} cannot be undone: {change.invoked_class} has no rollback. Write "
                "one, or choose other changes.",
                file=change.file,
                line=change.line,
            )

    for change in pipeline.changes():
        needed = chosen & set(change.depends_on)
        if needed and change.id not in chosen and is_applied(last.get(change.id)):
            yield ConfigurationError(
                f"Change {min(needed)!r} cannot be undone alone: the applied change "
                f"{change.id!r} depends on it. Undo that one first."
            )


def check_selection(
    *, count: object, to: object, since: datetime | None, change_id: object
) -> None:
    """
    Make sure that exactly one of the arguments of :func:`plan_undo` says what to undo.

    :raises ConfigurationError: if none does or several do, or what is given is no such thing
    """
    if sum(value is not None for value in (count, to, since, change_id)) != 1:
        raise ConfigurationError("undo: give exactly one of last=, to=, since= or change_id=.")

    if count is not None and (not isinstance(count, int) or count < 1):
        raise ConfigurationError(f"undo(last={count!r}): give a number of 1 or more.")

    if since is not None and since.tzinfo is None:
        raise ConfigurationError(f"undo(since={since!r}): give a time with a time zone.")
