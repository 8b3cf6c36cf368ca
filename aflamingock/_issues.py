"""Issues: the changes that need a person, kept for those who read the database."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from ._change import Change
from ._decision import Action, next_action
from ._records import AuditEntry, Issue
from .abc import AuditStore

logger = logging.getLogger(__name__)


def is_issue(entry: AuditEntry, change: Change | None) -> bool:
    """
    Say whether a change needs a person.

    :param entry: its last entry
    :param change: the change in today's code; without it the stored recovery counts
    """
    action = next_action(
        entry,
        has_verify=change is not None and change.has_verify,
        recovery=entry.recovery_strategy if change is None else change.recovery,
    )
    return action is Action.MANUAL_INTERVENTION


def issue_of(entry: AuditEntry) -> Issue:
    """Return the issue that a change's last entry is."""
    return Issue(
        service=entry.service,
        issue_id=entry.entry_id,
        change_id=entry.change_id or "",
        state=entry.state,
        target_system_id=entry.target_system_id,
        error=entry.error_trace,
        created_at=entry.created_at,
    )


def open_issues(
    last: Mapping[str, AuditEntry], changes: Iterable[Change] = ()
) -> tuple[Issue, ...]:
    """
    Return the issues of a service, in the order in which they came up.

    :param last: the last entry of each change, by its id
    :param changes: today's code, as far as it is known
    """
    known = {change.id: change for change in changes}
    found = [entry for id, entry in last.items() if is_issue(entry, known.get(id))]
    return tuple(issue_of(entry) for entry in sorted(found, key=lambda entry: entry.sequence))


async def keep_issue(store: AuditStore[Any], change: Change | None, entry: AuditEntry) -> None:
    """
    Keep a record of an issue, if the entry is one.

    The log is what counts: a record that cannot be kept is warned of.

    :param change: the change in today's code, if it is known
    """
    if not is_issue(entry, change):
        return

    try:
        await store.save_issue(issue_of(entry))
    except Exception as exc:  # the log has it already, and this is a copy for other readers
        logger.warning("The issue of change %r was not recorded: %s", entry.change_id, exc)
