"""Rolling one change back."""

from __future__ import annotations

import logging

import anyio

from .._events import ChangeRolledBack
from .._payload import error_line
from .._report import ChangeStatus
from .._states import AuditState, TxStrategy
from .._task import finished
from ..exceptions import (
    LockLostError,
    RollbackFailedError,
    SequenceConflictError,
    UnknownOutcomeError,
)
from .attempt import nothing
from .work import Work

logger = logging.getLogger(__name__)


class Reversal(Work):
    """Rolls one applied change back, or one whose rollback was left unfinished."""

    async def carry_out(self) -> None:
        """
        Roll the change back.

        :raises RollbackFailedError: if the rollback raised
        """
        await self._begin()
        await self.announce()
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
            if self._is_ours(exc) or self._is_closed(opened):
                raise

            await self._rollback_failed(exc)
            raise self._failed(exc) from exc
        except anyio.get_cancelled_exc_class():
            if self._is_closed(opened):
                self.status = ChangeStatus.ROLLED_BACK
            elif self._run.lease.is_standing:
                await self._rollback_failed(InterruptedError("The undo was interrupted."))

            raise

        self._duration, self.status = self._call.duration, ChangeStatus.ROLLED_BACK
        logger.info("Change %r is rolled back (%.3f s).", self._change.id, self._duration)
        await self._run.listeners.emit(ChangeRolledBack(**self._told()))

    def _failed(self, exc: Exception) -> RollbackFailedError:
        return RollbackFailedError(
            f"The rollback of change {self._change.id!r} ({self._change.file}) failed: "
            f"{error_line(exc)}",
            change_id=self._change.id,
            file=self._change.file,
        )
