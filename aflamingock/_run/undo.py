"""Undo: a run backwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from .._change import Change
from .._execution.context import RunContext
from .._execution.orphan import end_orphans
from .._execution.reversal import Reversal
from .._execution.settlement import settle
from .._issues import open_issues
from .._pipeline import Pipeline
from .._plan.decision import Action, is_applied
from .._plan.plan import Plan, PlannedChange, plan_change
from .._plan.undo import plan_undo
from .._report import ChangeReport, ChangeStatus, RunReport, RunStatus, StageReport
from .._states import AuditState
from ..exceptions import (
    FlamingockError,
    LockLostError,
    ManualInterventionError,
    SequenceConflictError,
    UnknownOutcomeError,
)
from .run import Run
from .survey import check_transactions, load

_TRIES = 5


async def undo(run: Run, *, dry_run: bool, **selection: Any) -> RunReport:
    """
    Roll back applied changes, newest first.

    :param dry_run: only report what would be rolled back; writes nothing
    :param selection: as in :func:`plan_undo`
    :raises RollbackFailedError: if a rollback raised; the changes after it are not reached
    """
    pipeline = await load(run.settings)
    unsettled = _unsettled(await run.plan(pipeline))
    if dry_run or not unsettled:
        chosen = _choose(run, pipeline, selection)
        if dry_run or not chosen:
            status = RunStatus.DRY_RUN if dry_run else RunStatus.NOTHING_TO_DO
            return run.report(status, _grouped(pipeline, [_planned(pipeline, c) for c in chosen]))

    async with AsyncExitStack() as stack:
        await run.open_targets(stack)
        lease = await stack.enter_async_context(run.lock.hold(above=run.log.history.epoch))
        assert lease is not None
        context = run.context(lease)
        unsettled = _unsettled(await run.plan(pipeline))
        await end_orphans(context)
        for planned in unsettled:
            await settle(context, planned, _stage_of(pipeline, planned.change))

        _refuse_doubt(run, pipeline, selection)
        chosen = _choose(run, pipeline, selection)
        await check_transactions(chosen, run.settings)
        undone = [(change, _reversal(context, pipeline, change)) for change in chosen]
        try:
            for change, reversal in undone:
                await _undo_surely(context, change, reversal)
        except FlamingockError as exc:
            exc.report = run.report(RunStatus.FAILED, _reports(pipeline, undone))
            raise

        return run.report(RunStatus.SUCCESS, _reports(pipeline, undone))


def _refuse_doubt(run: Run, pipeline: Pipeline, selection: Mapping[str, Any]) -> None:
    """Let a person speak first where a change in doubt might be among the newest ones."""
    issues = open_issues(run.log.history.last, pipeline.changes())
    if issues and selection["change_id"] is None:
        raise ManualInterventionError(
            "Nothing is undone before a person has said what became of "
            + ", ".join(repr(issue.change_id) for issue in issues)
            + ". See 'aflamingock issue list', or undo single changes by their ids.",
            issues=issues,
        )


def _unsettled(plan: Plan) -> list[PlannedChange]:
    """Return the changes whose markers tell more than the log."""
    return [planned for planned in plan.changes() if planned.action is Action.RESOLVE_MARKER]


def _choose(run: Run, pipeline: Pipeline, selection: Mapping[str, Any]) -> tuple[Change, ...]:
    history = run.log.history
    return plan_undo(pipeline, history.last, applied=history.applied, **selection)


def _reversal(run: RunContext, pipeline: Pipeline, change: Change) -> Reversal:
    attempt = run.log.history.last[change.id].attempt
    return Reversal(run, change, _stage_of(pipeline, change), attempt=attempt)


async def _undo_surely(run: RunContext, change: Change, reversal: Reversal) -> None:
    for _ in range(_TRIES):
        try:
            return await reversal.carry_out()
        except SequenceConflictError as exc:
            run.lease.check()
            if exc.state is not AuditState.ROLLBACK_STARTED:
                raise _beaten(run) from exc
        except UnknownOutcomeError:
            await run.log.read()

        if await _is_undone(run, change, reversal.stage):
            reversal.status = ChangeStatus.ROLLED_BACK
            return None

    raise _beaten(run)


async def _is_undone(run: RunContext, change: Change, stage: str) -> bool:
    planned = plan_change(change, run.log.history.last[change.id])
    if planned.action is Action.RESOLVE_MARKER:
        return await settle(run, planned, stage) is Action.APPLY

    return not is_applied(run.log.history.last[change.id])


def _beaten(run: RunContext) -> LockLostError:
    return LockLostError(
        f"Another run of service {run.origin.service!r} has written to the audit log since this "
        "one read it. The undo has stopped; start again to go on."
    )


def _planned(pipeline: Pipeline, change: Change) -> ChangeReport:
    return ChangeReport(
        change_id=change.id,
        stage=_stage_of(pipeline, change),
        author=change.author,
        target_system=change.target_system,
        file=change.file,
        status=ChangeStatus.WOULD_ROLL_BACK,
    )


def _reports(pipeline: Pipeline, undone: Sequence[tuple[Change, Reversal]]) -> list[StageReport]:
    return _grouped(pipeline, [reversal.report() for _, reversal in undone])


def _grouped(pipeline: Pipeline, reports: Sequence[ChangeReport]) -> list[StageReport]:
    stages = (
        StageReport(name=stage.name, changes=tuple(r for r in reports if r.stage == stage.name))
        for stage in pipeline.stages
    )
    return [stage for stage in stages if stage.changes]


def _stage_of(pipeline: Pipeline, change: Change) -> str:
    return next(stage.name for stage in pipeline.stages if change in stage.changes)
