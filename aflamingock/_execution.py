"""Carrying out one change, and taking it back."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import anyio.lowlevel

from ._attempt import Attempt, Following, nothing
from ._call import Caller
from ._change import Change
from ._context import RunContext
from ._events import (
    ChangeApplied,
    ChangeFailed,
    ChangeRollbackFailed,
    ChangeRolledBack,
    ChangeStarted,
)
from ._issues import close_issue, is_issue, issue_of, keep_issue
from ._payload import error_line, error_trace
from ._records import AuditEntry
from ._report import ChangeReport, ChangeStatus
from ._states import AuditState, Resolution, TxStrategy
from ._task import finished
from .exceptions import (
    AuditStoreError,
    ChangeFailedError,
    FlamingockError,
    LockError,
    LockLostError,
    RollbackFailedError,
    SequenceConflictError,
    SystemBusyError,
    UnknownOutcomeError,
)

logger = logging.getLogger(__name__)

_ROLLBACK_WITHIN = 10.0


class Execution:
    """
    One change in one run.

    The order of the steps is the whole point: STARTED is durable before anything is executed, and
    APPLIED is written after it, or as the last statement of the change's own transaction. Before
    each step that cannot be taken back stands a check of the lease.

    :param attempt: the attempt that is undone; by default the next one
    :ivar stage: the name of its stage
    :ivar status: what has become of the change
    """

    def __init__(
        self, run: RunContext, change: Change, stage: str, *, attempt: int | None = None
    ) -> None:
        self._last = run.log.history.last.get(change.id)
        self.status = ChangeStatus.NOT_REACHED
        self._run = run
        self._change = change
        self.stage = stage
        self._attempt = attempt or (self._last.attempt if self._last else 0) + 1
        self._call = Caller(run, change, stage, attempt=self._attempt)
        self._error: str | None = None
        self._duration = 0.0

    @property
    def change_id(self) -> str:
        """The change."""
        return self._change.id

    def report(self) -> ChangeReport:
        """Return what was done."""
        change = self._change
        return ChangeReport(
            change_id=change.id,
            stage=self.stage,
            author=change.author,
            target_system=change.target_system,
            file=change.file,
            status=self.status,
            attempt=self._attempt,
            duration=self._duration,
            error=self._error,
        )

    def opening(self) -> AuditEntry:
        """Return the STARTED that has to be durable before :meth:`apply` goes on."""
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
        await self._begin(opened)
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
            if self._is_ours(exc):
                raise

            await self._fail(exc)
            raise self._failed(exc) from exc
        except anyio.get_cancelled_exc_class():
            if self._run.lease.is_standing:
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
        earlier = Execution(self._run, self._change, self.stage, attempt=self._attempt - 1)
        try:
            await earlier.undo()
        finally:
            self.status, self._error = earlier.status, earlier._error

    async def undo(self) -> None:
        """
        Roll an applied change back, or one whose rollback was left unfinished.

        :raises RollbackFailedError: if the rollback raised
        """
        await self._begin(None)
        (opened,) = await self._run.log.append(self._entry(AuditState.ROLLBACK_STARTED, "rollback"))
        self._run.lease.change_id = self._change.id
        self.status = ChangeStatus.IN_DOUBT

        async def roll_back() -> None:
            await self._carry_out("rollback", opened, AuditState.ROLLED_BACK, nothing)

        try:
            if self._strategy is TxStrategy.NON_TX:
                await finished(roll_back, budget=self._budget)
            else:
                await roll_back()
        except (LockLostError, UnknownOutcomeError, SequenceConflictError):
            raise
        except Exception as exc:
            if self._is_ours(exc):
                raise

            await self._rollback_failed(exc)
            raise RollbackFailedError(
                f"The rollback of change {self._change.id!r} ({self._change.file}) failed: "
                f"{error_line(exc)}",
                change_id=self._change.id,
                file=self._change.file,
            ) from exc
        except anyio.get_cancelled_exc_class():
            if self._run.lease.is_standing:
                await self._rollback_failed(InterruptedError("The undo was interrupted."))

            raise

        self._duration, self.status = self._call.duration, ChangeStatus.ROLLED_BACK
        logger.info("Change %r is rolled back (%.3f s).", self._change.id, self._duration)
        await self._run.listeners.emit(ChangeRolledBack(**self._told()))

    async def _carry_out(
        self, method: str, opened: AuditEntry, closing: AuditState, following: Following
    ) -> tuple[AuditEntry, ...]:
        attempt = Attempt(
            run=self._run,
            change=self._change,
            call=self._call,
            method=method,
            opened=opened,
            closing=lambda: self._entry(closing, method),
        )
        return await attempt.carry_out(following)

    async def _begin(self, opened: AuditEntry | None) -> None:
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
            self._run.lease.check_renewed()
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

    async def _rollback_failed(self, exc: Exception) -> None:
        self.status = ChangeStatus.ROLLBACK_FAILED
        self._error = self._error or error_line(exc)
        logger.error("The rollback of %r has failed: %s", self._change.id, error_line(exc))
        (entry,) = await self._run.log.append(
            self._entry(AuditState.ROLLBACK_FAILED, "rollback", error_trace=error_trace(exc))
        )
        await self._run.listeners.emit(ChangeRollbackFailed(**self._told(), error=exc))
        await self._keep_issue(entry)

    async def _keep_issue(self, entry: AuditEntry) -> None:
        # a verify is asked first, by the next run
        if is_issue(entry, self._change) and not self._change.has_verify:
            await keep_issue(self._run.store, entry)

    async def _close_issue(self) -> None:
        if self._last is not None and is_issue(self._last, None):
            await close_issue(
                self._run.store,
                issue_of(self._last),
                Resolution.APPLIED,
                by=self._run.origin.user,
                reason=f"Applied as attempt {self._attempt}.",
            )

    def _is_ours(self, exc: Exception) -> bool:
        """Say whether it is not the change that failed; what the log says stands then."""
        ours = (AuditStoreError, LockError, SystemBusyError)
        return isinstance(exc, ours) and exc is not self._call.raised

    def _budget(self) -> float:
        return min(_ROLLBACK_WITHIN, self._run.lease.remaining)

    def _failed(self, exc: Exception) -> ChangeFailedError:
        return ChangeFailedError(
            f"Change {self._change.id!r} ({self._change.file}) failed: {error_line(exc)}",
            change_id=self._change.id,
            file=self._change.file,
        )

    @property
    def _strategy(self) -> TxStrategy:
        return self._run.strategy(self._change)

    def _entry(self, state: AuditState, method: str, **values: Any) -> AuditEntry:
        return self._run.entry(
            self._change,
            self.stage,
            state,
            method=method,
            attempt=self._attempt,
            execution_millis=round(self._call.duration * 1000),
            **values,
        )

    def _told(self) -> dict[str, Any]:
        origin = self._run.origin
        return {
            "service": origin.service,
            "execution_id": origin.execution_id,
            "stage": self.stage,
            "change_id": self._change.id,
            "attempt": self._attempt,
        }
