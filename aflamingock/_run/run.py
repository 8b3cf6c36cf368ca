"""One run, from the first look at the log to the report."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

from .._audit.history import is_up_to_date
from .._audit.log import AuditLog
from .._events import Listeners, RunEnded, RunPlanned, RunStarted
from .._execution.context import Origin, RunContext
from .._execution.orphan import end_orphans
from .._execution.stages import Checkpoint, StageRun, run_stages
from .._host import boot_time
from .._issues import open_issues
from .._lease import HeldLease
from .._lock.lock import Lock
from .._pipeline import Pipeline
from .._plan.plan import Plan, make_plan
from .._report import RunReport, RunStatus, StageReport
from .._retry import Patience
from ..exceptions import (
    AuditStoreError,
    FlamingockError,
    LockError,
    LockLostError,
    LockTimeoutError,
    ManualInterventionError,
    PendingChangesError,
)
from .settings import Settings
from .survey import check_transactions, digest_of, history_warnings, load

logger = logging.getLogger(__name__)


class Run:
    """
    One run of a pipeline. The audit store is open while it lasts.

    What is read before the lease is held only tells whether there may be something to do: all
    decisions are made again from what is read under it.
    """

    def __init__(
        self, settings: Settings, listeners: Listeners, *, user: str | None = None
    ) -> None:
        self.settings = settings
        self.listeners = listeners
        self.origin = Origin.of_process(
            service=settings.service,
            user=user,
            environment=settings.environment,
            metadata=settings.metadata,
        )
        self.execution_id = self.origin.execution_id
        self.patience = Patience(
            limit=settings.lock.timeout, policy=settings.audit.retry, retries=settings.retries
        )
        self.log = AuditLog(
            settings.audit_store,
            service=settings.service,
            execution_id=self.execution_id,
            patience=self.patience,
            options=settings.audit,
            listeners=listeners,
        )
        self.lock = Lock(
            settings.audit_store,
            settings.lock,
            service=settings.service,
            owner=self.execution_id,
            listeners=listeners,
            retries=settings.retries,
        )
        self._started_at = datetime.now(UTC)
        self._started = boot_time()
        self._stages: Sequence[StageRun] = ()
        self._warnings: tuple[str, ...] = ()

    async def perform(self) -> RunReport:
        """
        Apply what is pending.

        :raises FlamingockError: with the report, whatever ended the run
        """
        await self.listeners.emit(RunStarted(**self.told()))
        error: BaseException | None = None
        try:
            return self.report(await self._apply_pending())
        except FlamingockError as exc:
            error = exc
            if exc.report is None:
                exc.report = self.report(_status_of(exc))

            raise
        except BaseException as exc:
            error = exc
            raise
        finally:
            await self.listeners.emit(
                RunEnded(**self.told(), error=error, duration=boot_time() - self._started)
            )

    async def is_up_to_date(self) -> bool:
        """Say, after one read and without an import, whether nothing is pending for sure."""
        return is_up_to_date(await self.log.tail(), await digest_of(self.settings))

    async def plan(self, pipeline: Pipeline) -> Plan:
        """Read the log and decide on every change."""
        await self.log.read()
        return make_plan(pipeline, self.log.history.last, execution_id=self.execution_id)

    def check_history(self, plan: Plan) -> None:
        """
        Hold the plan against the settings for drift and order, and note the warnings.

        :raises HistoryError: if they do not allow what was found
        """
        found = history_warnings(plan, self.settings)
        for warning in found:
            if warning not in self._warnings:
                logger.warning("%s", warning)

        self._warnings = found

    async def check_blocked(self, plan: Plan, pipeline: Pipeline) -> Plan:
        """
        Let nothing pass that needs a person.

        What another run is at work on looks like what was left unfinished. The lease tells them
        apart, if it was nobody's while the log was read once more.

        :return: the plan by the last look at the log
        :raises ManualInterventionError: if there is a change in doubt
        :raises PendingChangesError: if it may be carried out just now
        """
        if not plan.blocked:
            return plan

        before = await self.lock.status()
        plan = await self.plan(pipeline)
        after = await self.lock.status()
        if not plan.blocked:
            return plan

        if before.held or after.held or before.epoch != after.epoch:
            raise PendingChangesError(
                f"{plan.blocked[0].change.id!r} is unfinished, and may be carried out just now by "
                f"{after.lease}. Wait for that run.",
                plan=plan,
            )

        issues = open_issues(self.log.history.last, pipeline.changes())
        raise ManualInterventionError(
            "A person has to say what became of "
            + ", ".join(repr(issue.change_id) for issue in issues)
            + ". See 'aflamingock issue list'.",
            issues=issues,
        )

    def context(self, lease: HeldLease) -> RunContext:
        """Return what the changes share, under a lease."""
        self.patience.holder = self.lock.predecessor
        self.log.work_under(lease)
        return RunContext(
            origin=self.origin,
            log=self.log,
            store=self.settings.audit_store,
            lease=lease,
            patience=self.patience,
            injector=self.settings.injector,
            targets=self.settings.targets,
            listeners=self.listeners,
            transaction_mode=self.settings.transaction_mode,
        )

    def report(self, status: RunStatus, stages: Sequence[StageReport] = ()) -> RunReport:
        """Return what was done until now."""
        return RunReport(
            service=self.settings.service,
            execution_id=self.execution_id,
            status=status,
            started_at=self._started_at,
            duration=boot_time() - self._started,
            stages=tuple(stages) or tuple(stage.report() for stage in self._stages),
            warnings=self._warnings,
        )

    def told(self) -> dict[str, Any]:
        """Return what every event tells."""
        return {"service": self.settings.service, "execution_id": self.execution_id}

    async def open_targets(self, stack: AsyncExitStack) -> None:
        """Open every target system until *stack* is closed."""
        for target in self.settings.targets.values():
            await stack.enter_async_context(target)

    async def _apply_pending(self) -> RunStatus:
        digest = await digest_of(self.settings)
        if is_up_to_date(await self.log.tail(), digest):
            logger.info("Service %r has nothing to apply.", self.settings.service)
            return RunStatus.NOTHING_TO_DO

        pipeline = await load(self.settings)
        if any(change.run_always for change in pipeline.changes()):
            digest = None

        plan = await self.plan(pipeline)
        self.check_history(plan)
        if plan.is_empty:
            await self._leave_checkpoint(pipeline, digest)
            return RunStatus.NOTHING_TO_DO

        async with AsyncExitStack() as stack:
            await self.open_targets(stack)
            await check_transactions((one.change for one in plan.pending), self.settings)
            if self.log.history.sequence == 0:
                await self.patience(self.settings.audit_store.create)

            return await self._apply_under_lease(pipeline, digest)

    async def _apply_under_lease(self, pipeline: Pipeline, digest: str | None) -> RunStatus:
        async def nothing_left() -> bool:
            return (await self.plan(pipeline)).is_empty

        held = self.lock.hold(done=nothing_left, above=self.log.history.epoch)
        async with AsyncExitStack() as stack:
            try:
                lease = await stack.enter_async_context(held)
            except LockTimeoutError as exc:
                if self.settings.lock.on_timeout == "raise":
                    raise

                logger.warning("The run is skipped. %s", exc)
                return RunStatus.SKIPPED

            if lease is not None:
                return await self._carry_out(pipeline, digest, lease)

        # another run has done the work meanwhile
        self.check_history(await self.plan(pipeline))
        return RunStatus.NOTHING_TO_DO

    async def _carry_out(
        self, pipeline: Pipeline, digest: str | None, lease: HeldLease
    ) -> RunStatus:
        context = self.context(lease)
        plan = await self.plan(pipeline)
        self.check_history(plan)
        await end_orphans(context)
        left = [*plan.pending, *plan.blocked]
        await self.listeners.emit(RunPlanned(**self.told(), pending=len(plan.pending)))
        checkpoint = Checkpoint(context, {planned.change.id for planned in left}, digest)
        self._stages = [StageRun(context, stage, checkpoint) for stage in pipeline.stages]
        await run_stages(self._stages)
        _raise_first([stage.error for stage in self._stages if stage.error is not None])
        await checkpoint.complete()
        return RunStatus.SUCCESS if left else RunStatus.NOTHING_TO_DO

    async def _leave_checkpoint(self, pipeline: Pipeline, digest: str | None) -> None:
        """Make the next start cheap, if the lease is free; never at the cost of this one."""
        if digest is None or self.log.history.sequence == 0:
            return

        try:
            async with self.lock.hold(above=self.log.history.epoch, wait=False) as lease:
                if lease is not None:
                    context = self.context(lease)
                    if (await self.plan(pipeline)).is_empty:
                        await Checkpoint(context, set(), digest).complete()
        except (LockError, AuditStoreError) as exc:
            logger.info("No checkpoint was written: %s", exc)


def _status_of(exc: FlamingockError) -> RunStatus:
    if isinstance(exc, LockLostError):
        return RunStatus.LOCK_LOST

    if isinstance(exc, ManualInterventionError):
        return RunStatus.BLOCKED

    return RunStatus.FAILED


def _raise_first(errors: Sequence[Exception]) -> None:
    """Raise the error that says most; the others are noted on it."""
    if not errors:
        return

    first, *others = sorted(errors, key=lambda error: not isinstance(error, LockLostError))
    for other in others:
        first.add_note(f"Another stage has failed as well: {other}")

    raise first
