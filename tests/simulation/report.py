"""What a report may say, by what the run has written."""

from __future__ import annotations

from collections.abc import Iterable

from aflamingock import AuditEntry, AuditState, RunReport
from aflamingock._report import ChangeStatus

_UNDONE = (ChangeStatus.FAILED, ChangeStatus.NOT_REACHED)


def false_words(report: object, entries: Iterable[AuditEntry], *, undoes: bool) -> list[str]:
    """
    Return what a report says that is not true, each as the rest of a sentence.

    :param report: what a call has returned or raised; nothing is found in what is no report
    :param entries: the log
    :param undoes: whether it is about an undo: that tells nothing of what it has settled before
    """
    if not isinstance(report, RunReport):
        return []

    own = [
        entry
        for entry in entries
        if entry.execution_id == report.execution_id
        and not (undoes and entry.state is AuditState.APPLIED)
    ]
    found = []
    for change in report.changes():
        states = [entry.state for entry in own if entry.change_id == change.change_id]
        if not _is_true(change.status, states):
            found.append(f"reports {change.status} for {change.change_id!r}, and wrote {states}")

    return found


def _is_true(status: ChangeStatus, states: list[AuditState]) -> bool:
    if status is ChangeStatus.APPLIED:
        return AuditState.APPLIED in states

    if status is ChangeStatus.ROLLED_BACK:
        return AuditState.ROLLED_BACK in states

    return not (status in _UNDONE and states[-1:] == [AuditState.APPLIED])
