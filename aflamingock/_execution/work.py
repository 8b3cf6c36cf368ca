"""What applying a change and rolling it back share."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import anyio.lowlevel

from .._change import Change
from .._events import ChangeRollbackFailed
from .._issues import is_issue, keep_issue
from .._payload import error_line, error_trace
from .._records import AuditEntry
from .._report import ChangeReport, ChangeStatus
from .._states import AuditState, TxStrategy
from ..exceptions import AuditStoreError, LockError, SystemBusyError
from .attempt import Attempt, Following
from .call import Caller
from .context import RunContext
from .orphan import TRANSACTION

logger = logging.getLogger(__name__)

_ROLLBACK_WITHIN = 10.0


class Work:
    """
    One change in one run.

    :param attempt: which attempt at the change it is about; by default the next one
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
        self._identity: str | None = None
        self._is_torn = False
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

    @property
    def _strategy(self) -> TxStrategy:
        return self._run.strategy(self._change)

    async def announce(self) -> None:
        """Let the target system say, before the first entry, which transaction will be its."""
        target = self._run.transactional(self._change.target_system)
        is_unknown = self._identity is None and self._strategy is not TxStrategy.NON_TX
        if target is not None and is_unknown:
            self._identity = await target.announce()

    async def _begin(self) -> None:
        await anyio.lowlevel.checkpoint_if_cancelled()
        self._run.lease.check_renewed()

    async def _carry_out(
        self, method: str, opened: AuditEntry, closing: AuditState, following: Following
    ) -> tuple[AuditEntry, ...]:
        identity, self._identity = self._identity, None  # each transaction has its own
        attempt = Attempt(
            run=self._run,
            change=self._change,
            call=self._call,
            method=method,
            opened=opened,
            identity=identity,
            closing=lambda: self._entry(closing, method),
        )
        try:
            return await attempt.carry_out(following)
        finally:
            self._is_torn = attempt.is_torn

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

    def _is_ours(self, exc: Exception) -> bool:
        """Say whether it is not the change that failed; what the log says stands then."""
        if isinstance(exc, SystemBusyError) and self._strategy is not TxStrategy.NON_TX:
            return False  # it has ended the transaction, and so the attempt: nothing was done

        ours = (AuditStoreError, LockError, SystemBusyError)
        return isinstance(exc, ours) and exc is not self._call.raised

    def _is_closed(self, opened: AuditEntry) -> bool:
        """Say whether the log has more about the attempt than its beginning: then that stands."""
        last = self._run.log.history.last[self._change.id]
        return last.entry_id != opened.entry_id

    def _budget(self) -> float:
        return min(_ROLLBACK_WITHIN, self._run.lease.remaining)

    def _entry(self, state: AuditState, method: str, **values: Any) -> AuditEntry:
        is_opening = state in (AuditState.STARTED, AuditState.ROLLBACK_STARTED)
        if is_opening and self._identity is not None:
            values["metadata"] = {TRANSACTION: self._identity}

        if self._is_torn:
            # the transaction promises nothing any more: only a person, or verify, can tell
            values["tx_strategy"] = TxStrategy.NON_TX

        return self._run.entry(
            self._change,
            self.stage,
            state,
            method=method,
            attempt=self._attempt,
            execution_millis=0 if is_opening else round(self._call.duration * 1000),
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
