"""Issues: the changes that need a person, kept for those who read the database."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import anyio

from ._change import Change
from ._payload import error_line
from ._plan.decision import Action, next_action
from ._records import AuditEntry, Issue
from ._states import IssueStatus, Resolution
from .abc import AuditStore

logger = logging.getLogger(__name__)

_SAVED_WITHIN = 10.0


def is_issue(entry: AuditEntry, change: Change | None) -> bool:
    """
    Say whether a change needs a person, as long as its ``verify`` has not told more.

    :param entry: its last entry
    :param change: the change in today's code; without it the stored recovery counts
    """
    recovery = change.recovery if change else entry.recovery_strategy
    action = next_action(entry, has_verify=False, recovery=recovery)
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


async def keep_issue(store: AuditStore[Any], entry: AuditEntry) -> None:
    """
    Keep a record of the issue that an entry is.

    The log is what counts: a record that cannot be kept is warned of.
    """
    await _save(store, issue_of(entry))


async def close_issue(
    store: AuditStore[Any], issue: Issue, resolution: Resolution, *, by: str | None, reason: str
) -> None:
    """
    Record what has become of an issue; a record that cannot be kept is warned of.

    :param by: who or what has said so
    """
    resolved = replace(
        issue,
        status=IssueStatus.RESOLVED,
        resolved_at=datetime.now(UTC),
        resolved_by=by,
        resolution=resolution,
        reason=reason,
    )
    await _save(store, resolved)


async def _save(store: AuditStore[Any], issue: Issue) -> None:
    try:
        # a cancellation must not leave the copy behind the log for ever
        with anyio.fail_after(_SAVED_WITHIN, shield=True):
            await store.save_issue(issue)
    except Exception as exc:  # the log has it already, and this is a copy for other readers
        logger.warning(
            "The issue of change %r was not recorded: %s", issue.change_id, error_line(exc)
        )
