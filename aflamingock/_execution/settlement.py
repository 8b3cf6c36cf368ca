"""Settling what a crash left unfinished: by a marker, or by asking the change."""

from __future__ import annotations

import logging
from typing import Any

from .._issues import close_issue, is_issue, issue_of
from .._payload import error_trace
from .._plan.decision import Action, after_doubt
from .._plan.plan import PlannedChange
from .._records import AuditEntry
from .._states import AuditState, MarkerOutcome, Resolution, Verification
from ..abc import TransactionalTargetSystem
from ..exceptions import ConfigurationError, LockLostError
from .attempt import forget_marker
from .call import Caller
from .context import RunContext

logger = logging.getLogger(__name__)


async def settle(run: RunContext, planned: PlannedChange, stage: str) -> Action:
    """
    Find out what became of an unfinished change, and record it if it is done.

    :param planned: a change whose action is RESOLVE_MARKER or VERIFY
    :return: what is to be done with it now
    """
    entry = run.log.history.last[planned.change.id]
    if planned.action is Action.RESOLVE_MARKER:
        return await _resolve_marker(run, planned, stage, entry)

    return await _verify(run, planned, stage, entry)


async def _resolve_marker(
    run: RunContext, planned: PlannedChange, stage: str, entry: AuditEntry
) -> Action:
    target, change = _target_of(run, entry), planned.change
    outcome = await run.patience(
        lambda: target.claim_marker(entry.entry_id, change.id), check=run.lease.check
    )
    undone = entry.state is AuditState.ROLLBACK_STARTED
    if outcome is MarkerOutcome.ABORTED:
        if not undone:
            return Action.APPLY

        # the undo was not committed: said so, lest every run to come asks again
        await _record(run, planned, stage, AuditState.ROLLBACK_FAILED, entry.attempt, "marker")
        return Action.SKIP

    state = AuditState.ROLLED_BACK if undone else AuditState.APPLIED
    await _record(run, planned, stage, state, entry.attempt, "marker")
    await forget_marker(target, entry.entry_id, change.id)
    return Action.APPLY if undone else Action.SKIP


async def _verify(run: RunContext, planned: PlannedChange, stage: str, entry: AuditEntry) -> Action:
    change = planned.change
    call = Caller(run, change, stage, attempt=entry.attempt)
    answer: object = Verification.PARTIAL
    try:
        async with run.targets[change.target_system].handles() as objects:
            answer = await call("verify", objects, guard_objects=True, check=run.lease.check)
    except LockLostError:
        raise
    except Exception as exc:  # the doubt stays, and it is decided as if there were no verify
        logger.warning("The verify of change %r has failed: %s", change.id, error_trace(exc))

    logger.info("The verify of change %r answers %s.", change.id, answer)
    if answer == Verification.APPLIED:
        await _record(run, planned, stage, AuditState.APPLIED, entry.attempt, "verify")
        if is_issue(entry, None):
            await close_issue(
                run.store, issue_of(entry), Resolution.APPLIED, by="verify", reason="Verified."
            )

        return Action.SKIP

    if answer == Verification.NOT_APPLIED:
        return Action.APPLY

    return after_doubt(entry.state, change.recovery)


async def _record(
    run: RunContext,
    planned: PlannedChange,
    stage: str,
    state: AuditState,
    attempt: int,
    resolution: str,
) -> None:
    await run.log.append(
        run.entry(
            planned.change,
            stage,
            state,
            method="execute" if state is AuditState.APPLIED else "rollback",
            attempt=attempt,
            metadata={"resolution": resolution},
        )
    )
    logger.info("Change %r is %s, as its %s says.", planned.change.id, state, resolution)


def _target_of(run: RunContext, entry: AuditEntry) -> TransactionalTargetSystem[Any]:
    target = run.transactional(entry.target_system_id)
    if target is None:
        raise ConfigurationError(
            f"Change {entry.change_id!r} was left unfinished on target system "
            f"{entry.target_system_id!r}, whose marker tells what became of it, but no such "
            "transactional target system is given. Add it to target_systems=."
        )

    return target
