"""The commands that carry out changes, and those that tell what would be carried out."""

from __future__ import annotations

import sys
from functools import partial
from typing import Annotated, Any

import typer
from anyio import to_thread

from .._plan.decision import Action
from .._report import ChangeStatus, RunReport
from ..exceptions import ConfigurationError
from ._command import Session, command
from ._interruption import ending_at_once
from ._moment import moment
from ._output import Answer, show
from ._report import AT_WORK, issue_table, plan_table, report_parts
from ._scaffold import new_change

changes = typer.Typer()


@command(changes, "apply")
async def apply(session: Session) -> Answer:
    """Apply what is pending. Each change once, however many apply at the same time."""
    async with session.open() as flamingock:
        with session.progress(flamingock):
            return _report_answer(await flamingock.run())


@command(changes, "plan")
async def plan(session: Session) -> Answer:
    """Show what apply would do; write nothing."""
    async with session.open() as flamingock:
        found = await flamingock.plan()

    warnings = (*found.warnings, *found.drifted, *found.out_of_order)
    return Answer(document=found.to_dict(), parts=[plan_table(found)], warnings=warnings)


@command(changes, "validate")
async def validate(session: Session) -> Answer:
    """Exit with 0 if nothing is pending. With 3 if something is, with 4 if one needs a person."""
    async with session.open() as flamingock:
        await flamingock.validate()

    return Answer(document={"valid": True}, parts=["Nothing is pending."])


@command(changes, "status")
async def status(session: Session) -> Answer:
    """Show counts, lease and issues. Nothing is written."""
    async with session.open() as flamingock:
        found = await flamingock.plan()
        lease = await flamingock.lock.status()
        issues = await flamingock.audit.issues()

    counts: dict[str, Any] = {
        "service": flamingock.service,
        "environment": flamingock.environment,
        "applied": sum(planned.action is Action.SKIP for planned in found.changes()),
        "pending": len(found.pending),
        "blocked": len(found.blocked),
        "unknown": len(found.unknown),
    }
    held = f"{lease.state}, by {lease.lease}" if lease.held else lease.state
    at_work = [AT_WORK] if lease.held and issues else []
    table = [issue_table(issues)] if issues else []
    lines = [f"{name}: {value}" for name, value in counts.items() if value is not None]
    return Answer(
        document={
            **counts,
            "unknown": list(found.unknown),
            "lock": lease.to_dict(),
            "issues": [issue.to_document() for issue in issues],
        },
        parts=[*lines, f"lock: {held}", f"issues: {len(issues)}", *table],
        warnings=(*found.warnings, *found.drifted, *found.out_of_order, *at_work),
    )


@command(changes, "undo")
async def undo(
    session: Session,
    last: Annotated[int | None, typer.Option(min=1, metavar="N", help="The last so many.")] = None,
    to: Annotated[str | None, typer.Option(metavar="ID", help="All applied after it.")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help='All applied since then: "2026-11-22T10:00", "2 hours ago".'
        ),
    ] = None,
    change: Annotated[str | None, typer.Option(metavar="ID", help="This change alone.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> Answer:
    """Roll changes back, newest first. Say which by one of the first four options."""
    options = {"last": last, "to": to, "since": since and moment(since), "change_id": change}
    which: dict[str, Any] = {name: said for name, said in options.items() if said is not None}
    if len(which) != 1:
        raise ConfigurationError("Give one of --last, --to, --since and --change.")

    asks = sys.stdin.isatty() and not session.settings.as_json
    if not (dry_run or yes or asks):
        raise ConfigurationError("Nobody can be asked here whether to undo: give --yes.")

    async with session.open() as flamingock:
        if not yes:
            planned = await flamingock.undo(**which, dry_run=True)
            if dry_run or not planned.with_status(ChangeStatus.WOULD_ROLL_BACK):
                return _report_answer(planned)

            if not _agreed(planned):
                return Answer(document={}, parts=["Nothing was undone."])

        with session.progress(flamingock):
            return _report_answer(await flamingock.undo(**which))


@command(changes, "new", needs="nothing")
async def new(
    session: Session,
    name: Annotated[str, typer.Argument(help='What it does: "add user status".')],
    author: Annotated[str | None, typer.Option(metavar="NAME", help="Who writes it.")] = None,
    target_system: Annotated[
        str | None, typer.Option(metavar="ID", help="What it touches.")
    ] = None,
) -> Answer:
    """Write the file of a new change. It gets the next order in the folder of --changes."""
    path = await to_thread.run_sync(
        partial(new_change, session.settings, name=name, author=author, target_system=target_system)
    )
    return Answer(document={"file": str(path)}, parts=[str(path)])


def _agreed(planned: RunReport) -> bool:
    with ending_at_once():
        show(_report_answer(planned))
        return typer.confirm("Undo these changes?", err=True)


def _report_answer(report: RunReport) -> Answer:
    # Its warnings have been logged, and so shown, as the run found them.
    return Answer(document=report.to_dict(), parts=report_parts(report))
