"""The stages of a run: each in the order of its changes, all of them as early as they may."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import anyio

from .._events import StageCompleted, StageFailed, StageStarted
from .._issues import issue_of, keep_issue
from .._pipeline import LoadedStage
from .._plan.decision import Action
from .._plan.plan import PlannedChange, plan_change
from .._records import AuditEntry
from .._report import ChangeReport, ChangeStatus, StageReport
from .._states import AuditState, AuditType
from ..exceptions import (
    LockLostError,
    ManualInterventionError,
    SequenceConflictError,
    UnknownOutcomeError,
)
from .context import RunContext
from .execution import Execution
from .settlement import settle

logger = logging.getLogger(__name__)

_TRIES = 5


class Checkpoint:
    """
    Says when a run has nothing left to do, so that its last entry can say so too.

    :param pending: the ids of the changes that the run has to deal with
    :param digest: the pipeline's digest; ``None`` if it has none
    """

    def __init__(self, run: RunContext, pending: set[str], digest: str | None) -> None:
        self._run = run
        self._pending = pending
        self._digest = digest

    def leave(self, change_id: str) -> None:
        """Take note that a change is dealt with."""
        self._pending.discard(change_id)

    def after(self, change_id: str) -> Sequence[AuditEntry]:
        """Return the CHECKPOINT that travels with a change's APPLIED, if that is the last one."""
        if self._digest is None or self._pending != {change_id}:
            return ()

        return (self._entry(self._digest),)

    async def complete(self) -> None:
        """Write the CHECKPOINT, if it does not stand at the end of the log already."""
        if self._digest is not None and self._digest not in self._run.log.history.checkpoints:
            await self._run.log.append(self._entry(self._digest))

    def _entry(self, digest: str) -> AuditEntry:
        return self._run.origin.system_entry(AuditType.CHECKPOINT, checksum=digest)


class StageRun:
    """
    One stage in one run.

    :ivar error: what ended the stage, if anything did
    """

    def __init__(self, run: RunContext, stage: LoadedStage, checkpoint: Checkpoint) -> None:
        self.name = stage.name
        self.after = stage.after
        self.error: Exception | None = None
        self.is_complete = False
        self._run = run
        self._changes = {change.id: change for change in stage.changes}
        self._checkpoint = checkpoint
        self._reports: dict[str, ChangeReport] = {}

    def report(self) -> StageReport:
        """Return what was done."""
        return StageReport(
            name=self.name,
            changes=tuple(
                self._reports.get(change.id) or self._untouched(change.id)
                for change in self._changes.values()
            ),
        )

    async def carry_out(self) -> None:
        """Apply what is pending; the outcome stands in the attributes."""
        try:
            await self._persist()
        except Exception as exc:  # told to the caller, when all other stages have ended
            self.error = exc
            await self._run.listeners.emit(StageFailed(**self._told()))
        else:
            self.is_complete = True

    async def _persist(self) -> None:
        for _ in range(_TRIES):
            try:
                return await self._try()
            except SequenceConflictError as exc:
                self._run.lease.check()
                if exc.state not in (AuditState.STARTED, AuditState.ROLLBACK_STARTED):
                    raise self._beaten() from exc

                logger.info("Another run's last entry got in first; the plan is made anew.")
            except UnknownOutcomeError as exc:
                logger.warning("The outcome of a commit is unknown, it is looked up: %s", exc)
                await self._run.log.read()

        raise self._beaten()

    async def _try(self) -> None:
        actions = await self._decide()
        blocked = [id for id, action in actions.items() if action is Action.MANUAL_INTERVENTION]
        if blocked:
            await self._block(blocked)

        idle = (Action.SKIP, Action.MANUAL_INTERVENTION)
        work = [change for change in self._changes.values() if actions[change.id] not in idle]
        if work:
            await self._run.listeners.emit(StageStarted(**self._told()))

        opened: AuditEntry | None = None
        executions = [Execution(self._run, change, self.name) for change in work]
        for execution, following in zip_longest(executions, executions[1:]):
            ends_open = following is not None and actions[following.change_id] is Action.APPLY
            written = await self._carry_out_one(
                execution, actions[execution.change_id], opened, following if ends_open else None
            )
            opened = written[0] if ends_open and written else None

        if work:
            await self._run.listeners.emit(StageCompleted(**self._told()))

    async def _carry_out_one(
        self,
        execution: Execution,
        action: Action,
        opened: AuditEntry | None,
        following: Execution | None,
    ) -> tuple[AuditEntry, ...]:
        def entries() -> Sequence[AuditEntry]:
            if following is not None:
                return (following.opening(),)

            return self._checkpoint.after(execution.change_id)

        try:
            if action is Action.ROLL_BACK:
                await execution.finish_rollback()

            # the entry of the one that follows may be written before anything can be awaited
            for coming in (execution, following):
                if coming is not None:
                    await coming.announce()

            written = await execution.apply(opened=opened, following=entries)
            self._checkpoint.leave(execution.change_id)
            return written
        finally:
            self._note(execution.report())

    def _note(self, report: ChangeReport) -> None:
        """Keep what became of a change; not to reach it again says nothing of a try before."""
        if report.status is ChangeStatus.NOT_REACHED:
            self._reports.setdefault(report.change_id, report)
        else:
            self._reports[report.change_id] = report

    async def _decide(self) -> Mapping[str, Action]:
        last, run_id = self._run.log.history.last, self._run.origin.execution_id
        actions = {}
        for change in self._changes.values():
            planned = plan_change(change, last.get(change.id), run_id)
            actions[change.id] = await self._settled(planned)
            if actions[change.id] is Action.SKIP:
                self._reports[change.id] = self._skipped(planned)
                self._checkpoint.leave(change.id)

        return actions

    async def _settled(self, planned: PlannedChange) -> Action:
        if planned.action in (Action.RESOLVE_MARKER, Action.VERIFY):
            # what it writes may stand although the run ends without an answer
            id = planned.change.id
            self._reports[id] = self._untouched(id, ChangeStatus.IN_DOUBT)
            action = await settle(self._run, planned, self.name)
            del self._reports[id]
            return action

        return planned.action

    async def _block(self, blocked: Sequence[str]) -> None:
        issues = []
        for id in blocked:
            entry = await self._run.log.entry(self._run.log.history.last[id].sequence)
            await keep_issue(self._run.store, entry)
            issues.append(issue_of(entry))
            self._reports[id] = self._untouched(id, ChangeStatus.MANUAL_INTERVENTION)

        raise ManualInterventionError(
            f"Stage {self.name!r} is blocked: a person has to say what became of "
            + ", ".join(f"{issue.change_id!r} (last state {issue.state})" for issue in issues)
            + ". Look at the target system, then run 'aflamingock audit fix -c ID -r APPLIED' or "
            "'-r ROLLED_BACK'; 'aflamingock issue get -c ID --guidance' tells more.",
            issues=issues,
        )

    def _skipped(self, planned: PlannedChange) -> ChangeReport:
        entry = self._run.log.history.last.get(planned.change.id)
        run_id = self._run.origin.execution_id
        # not by what a marker has told of an undo: that one was applied before
        mine = entry is not None and (entry.state, entry.execution_id) == (
            AuditState.APPLIED,
            run_id,
        )
        status = ChangeStatus.APPLIED if mine else ChangeStatus.ALREADY_APPLIED
        return self._untouched(planned.change.id, status)

    def _untouched(
        self, change_id: str, status: ChangeStatus = ChangeStatus.NOT_REACHED
    ) -> ChangeReport:
        change = self._changes[change_id]
        return ChangeReport(
            change_id=change.id,
            stage=self.name,
            author=change.author,
            target_system=change.target_system,
            file=change.file,
            status=status,
        )

    def _beaten(self) -> LockLostError:
        return LockLostError(
            f"Another run of service {self._run.origin.service!r} has written to the audit log "
            "since this one read it. This run has stopped; start again to go on."
        )

    def _told(self) -> dict[str, Any]:
        origin = self._run.origin
        return {
            "service": origin.service,
            "execution_id": origin.execution_id,
            "stage": self.name,
        }


async def run_stages(stages: Sequence[StageRun]) -> None:
    """
    Carry out every stage as soon as the stages that it comes after are complete.

    Stages that do not depend on each other run at the same time; a stage that was ended stops
    only those that come after it.
    """
    by_name = {stage.name: stage for stage in stages}
    over = {stage.name: anyio.Event() for stage in stages}

    async def one(stage: StageRun) -> None:
        for name in stage.after:
            await over[name].wait()

        if all(by_name[name].is_complete for name in stage.after):
            await stage.carry_out()

        over[stage.name].set()

    async with anyio.create_task_group() as tasks:
        for stage in stages:
            tasks.start_soon(one, stage, name=f"aflamingock stage {stage.name}")
