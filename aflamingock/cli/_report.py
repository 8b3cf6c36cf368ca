"""Reports, plans, entries and issues as tables."""

from __future__ import annotations

from collections.abc import Sequence

from .._plan.plan import Plan
from .._records import AuditEntry, Issue
from .._report import ChangeStatus, RunReport
from ..exceptions import FlamingockError, ManualInterventionError, PendingChangesError
from ._output import Table

AT_WORK = (
    "Somebody holds the lease and is at work: what is unfinished may be just what is being done. "
    "See 'aflamingock lock status'."
)


def report_parts(report: RunReport) -> Sequence[Table | str]:
    """Return what a run did: its changes but those long applied, and the summary."""
    rows = [
        (change.stage, change.change_id, change.status, change.duration, change.error, change.file)
        for change in report.changes()
        if change.status is not ChangeStatus.ALREADY_APPLIED
    ]
    columns = ("STAGE", "CHANGE", "STATUS", "SECONDS", "ERROR", "FILE")
    table = [Table(columns=columns, rows=rows, empty="")] if rows else []
    return [*table, report.summary]


def failure_parts(exc: BaseException) -> Sequence[Table | str]:
    """Return what an error carries: a report, a plan or issues."""
    if isinstance(exc, FlamingockError) and exc.report is not None and exc.report.stages:
        return report_parts(exc.report)

    if isinstance(exc, PendingChangesError):
        return [plan_table(exc.plan)]

    if isinstance(exc, ManualInterventionError):
        return [issue_table(exc.issues)]

    return []


def plan_table(plan: Plan) -> Table:
    """Return what a run would do: every change but those long applied."""
    waiting = {id(planned) for planned in (*plan.pending, *plan.blocked)}
    rows = [
        (stage.name, planned.change.id, planned.action, planned.state, planned.reason)
        for stage in plan.stages
        for planned in stage.changes
        if id(planned) in waiting
    ]
    columns = ("STAGE", "CHANGE", "ACTION", "LAST STATE", "REASON")
    return Table(columns=columns, rows=rows, empty="Nothing to do.")


def entry_table(entries: Sequence[AuditEntry], *, service: str, extended: bool) -> Table:
    """
    Return entries of the audit log.

    :param service: whose they are
    :param extended: show also how and where, and not only what and when
    """
    columns = ["NUMBER", "CHANGE", "STATE", "AT", "AUTHOR", "SECONDS"]
    rows = [
        [
            entry.sequence,
            entry.change_id or entry.type,
            entry.state,
            entry.created_at,
            entry.author,
            entry.execution_millis / 1000,
        ]
        for entry in entries
    ]
    if extended:
        columns += ["STAGE", "ATTEMPT", "TARGET", "STRATEGY", "HOST", "BY", "EXECUTION", "ERROR"]
        for row, entry in zip(rows, entries, strict=True):
            row += [
                entry.stage_id,
                entry.attempt,
                entry.target_system_id,
                entry.tx_strategy,
                entry.execution_hostname,
                entry.initiated_by,
                entry.execution_id,
                _last_line(entry.error_trace),
            ]

    return Table(
        columns=tuple(columns),
        rows=rows,
        empty=f"The audit log of the service {service!r} has no such entry.",
    )


def issue_table(issues: Sequence[Issue]) -> Table:
    """Return issues, one a line."""
    rows = [
        (
            issue.change_id,
            issue.state,
            issue.target_system_id,
            issue.created_at,
            _last_line(issue.error),
        )
        for issue in issues
    ]
    columns = ("CHANGE", "STATE", "TARGET", "SINCE", "ERROR")
    return Table(columns=columns, rows=rows, empty="No change needs a person.")


def _last_line(text: str | None) -> str | None:
    # The last line of a traceback is the error itself.
    return text.strip().rpartition("\n")[2] if text else None
