"""Applying one change."""

from __future__ import annotations

import logging

import anyio

from .._events import ChangeApplied, ChangeFailed, ChangeRolledBack, ChangeStarted
from .._issues import close_issue, is_issue, issue_of
from .._payload import error_line, error_trace
from .._records import AuditEntry
from .._report import ChangeStatus
from .._states import AuditState, Resolution, TxStrategy
from .._task import finished
from ..exceptions import (
    ChangeFailedError,
    FlamingockError,
    LockLostError,
    SequenceConflictError,
    UnknownOutcomeError,
)
from .attempt import Following, nothing
from .reversal import Reversal
from .work import Work

logger = logging.getLogger(__name__)


class Execution(Work):
    """
    Applies one change.

    The order of the steps is the whole point: STARTED is durable before anything is executed, and
    APPLIED is written after it, or as the last statement of the change's own transaction. Before
    each step that cannot be taken back stands a check of the lease.
    """

    def opening(self) -> AuditEntry:
        """Return the STARTED that has to be durable before :meth:`apply`; announce it first."""
        return self._entry(AuditState.STARTED, "execute")

    async def apply(
        self, *, opened: AuditEntry | None = None, following: Following = nothing
    ) -> tuple[AuditEntry, ...]:
        """
        Execute the change.

        :param opened: its STARTED, if that is durable already
        :return: the following entries, if they were written together with APPLIED
        :raises ChangeFailedError: if the change raised; it is rolled back then, where it can be
        """
        await self._begin_or_withdraw(opened)
        if opened is None:
            (opened,) = await self._run.log.append(self.opening())

        self._run.lease.change_id = self._change.id
        self.status = ChangeStatus.IN_DOUBT
        await self._run.listeners.emit(ChangeStarted(**self._told()))
        try:
            written = await self._carry_out("execute", opened, AuditState.APPLIED, following)
        except (LockLostError, UnknownOutcomeError, SequenceConflictError):
            raise
        except Exception as exc:
            if self._is_ours(exc) or self._is_closed(opened):
                raise

            await self._fail(exc)
            raise self._failed(exc) from exc
        except anyio.get_cancelled_exc_class():
            if self._is_closed(opened):
                self.status = ChangeStatus.APPLIED
            elif self._run.lease.is_standing:
                await self._fail(InterruptedError("The run was interrupted."))

            raise

        self._duration, self.status = self._call.duration, ChangeStatus.APPLIED
        logger.info("Change %r is applied (%.3f s).", self._change.id, self._duration)
        await self._run.listeners.emit(ChangeApplied(**self._told(), duration=self._duration))
        await self._close_issue()
        return written

    async def finish_rollback(self) -> None:
        """
        Roll back what an attempt before this one has begun to roll back.

        :raises RollbackFailedError: if the rollback raised
        """
        earlier = Reversal(self._run, self._change, self.stage, attempt=self._attempt - 1)
        try:
            await earlier.carry_out()
        finally:
            report = earlier.report()
            self.status, self._error = report.status, report.error

    async def _begin_or_withdraw(self, opened: AuditEntry | None) -> None:
        try:
            await self._begin()
        except BaseException:
            # its STARTED came with the end of the change before, and it is not begun after all
            if opened is not None and self._run.lease.is_standing:
                await self._run.log.append(self._entry(AuditState.ROLLED_BACK, "execute"))

            raise

    async def _fail(self, exc: Exception) -> None:
        self.status, self._error = ChangeStatus.FAILED, error_line(exc)
        self._duration = self._call.duration
        logger.error("Change %r has failed: %s", self._change.id, self._error)
        takes_back = self._strategy is TxStrategy.NON_TX and self._change.has_rollback
        entries = [self._entry(AuditState.FAILED, "execute", error_trace=error_trace(exc))]
        if takes_back:
            entries.append(self._entry(AuditState.ROLLBACK_STARTED, "rollback"))

        try:
            written = await self._run.log.append(*entries)
        except LockLostError:
            raise
        except FlamingockError as unwritten:  # what the change raised must not be lost over it
            exc.add_note(f"This could not be recorded: {error_line(unwritten)}")
            return

        await self._run.listeners.emit(ChangeFailed(**self._told(), error=exc))
        if takes_back:
            await self._take_back(exc, written[-1])
        else:
            await self._keep_issue(written[0])

    async def _take_back(self, exc: Exception, opened: AuditEntry) -> None:
        async def roll_back() -> None:
            await self._carry_out("rollback", opened, AuditState.ROLLED_BACK, nothing)

        try:
            await finished(roll_back, budget=self._budget)
        except LockLostError:
            raise
        except Exception as failure:
            exc.add_note(f"The rollback has failed as well: {error_line(failure)}")
            await self._rollback_failed(failure)
        else:
            self.status = ChangeStatus.ROLLED_BACK
            await self._run.listeners.emit(ChangeRolledBack(**self._told()))

    async def _close_issue(self) -> None:
        if self._last is not None and is_issue(self._last, None):
            await close_issue(
                self._run.store,
                issue_of(self._last),
                Resolution.APPLIED,
                by=self._run.origin.user,
                reason=f"Applied as attempt {self._attempt}.",
            )

    def _failed(self, exc: Exception) -> ChangeFailedError:
        return ChangeFailedError(
            f"Change {self._change.id!r} ({self._change.file}) failed: {error_line(exc)}",
            change_id=self._change.id,
            file=self._change.file,
        )
