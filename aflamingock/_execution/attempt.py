"""An attempt: a call of a change and the entry that closes it, tied together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import anyio

from .._change import Change
from .._payload import error_line
from .._records import AuditEntry
from .._retry import answered
from .._states import TxStrategy
from ..abc import TransactionalTargetSystem
from ..exceptions import FlamingockError, UnknownOutcomeError
from .call import Caller
from .context import RunContext

logger = logging.getLogger(__name__)

_COMMIT_WITHIN = 90.0
_ANSWER_WITHIN = 15.0
_TORN = (
    "The transaction was ended from within, as MySQL and MariaDB do at a statement like CREATE or "
    "ALTER, also in a procedure: what was done before may stand. Give the change "
    "transactional=False."
)
_FORGOTTEN_WITHIN = 5.0

Following = Callable[[], Sequence[AuditEntry]]
"""What to append together with the closing entry: asked at that moment."""


def nothing() -> Sequence[AuditEntry]:
    """Let nothing follow."""
    return ()


@dataclass(slots=True, kw_only=True, eq=False)
class Attempt:
    """
    One call of ``execute`` or ``rollback``, and the entry that says that it succeeded.

    How both are tied together is the tx strategy: in one transaction of the store's own database,
    in one transaction with a marker beside the data, or one after the other.

    :ivar method: ``execute`` or ``rollback``
    :ivar opened: the durable entry that the attempt began with; its id is the marker's key
    :ivar identity: what its transaction was announced as, if it was
    :ivar closing: returns the entry to close with
    :ivar is_torn: whether a part of its transaction may have been committed on its way
    """

    run: RunContext
    change: Change
    call: Caller
    method: str
    opened: AuditEntry
    identity: str | None
    closing: Callable[[], AuditEntry]
    is_torn: bool = False

    async def carry_out(self, following: Following) -> tuple[AuditEntry, ...]:
        """
        Call the change and close the attempt.

        :return: the following entries, if they were written together with the closing one
        :raises UnknownOutcomeError: if the commit may or may not have been done
        :raises SequenceConflictError: if another runner wrote first
        """
        match self.run.strategy(self.change):
            case TxStrategy.TX_SHARED:
                await self._in_shared_transaction()
                return ()
            case TxStrategy.TX_SEPARATE_WITH_MARKER:
                await self._in_marked_transaction()
                written = await self._close(following)
                await self._forget_marker()
                return written
            case _:
                await self._alone()
                return await self._close(following)

    async def _close(self, following: Following) -> tuple[AuditEntry, ...]:
        written = await self.run.log.append(self.closing(), *following())
        return written[1:]

    async def _alone(self) -> None:
        target = self.run.targets[self.change.target_system]
        async with target.handles() as objects:
            await self.call(self.method, objects, guard_objects=True, check=self._check)

    async def _in_shared_transaction(self) -> None:
        log = self.run.log
        exclusive = self.run.store.exclusive_transactions
        # the turn is kept until the commit's outcome is known: the next number depends on it
        async with AsyncExitStack() as turn:
            if exclusive:
                await turn.enter_async_context(log.turn())

            async with AsyncExitStack() as transaction:
                session = await self._begin(transaction)
                await self._call_within(session)
                if not exclusive:
                    await turn.enter_async_context(log.turn())

                entry = await answered(
                    lambda: log.append_within(session, self.closing()),
                    by=self.run.store,
                    writes=True,
                )
                await _commit(transaction)

            log.confirm(entry)

    async def _in_marked_transaction(self) -> None:
        async with AsyncExitStack() as transaction:
            session = await self._begin(transaction)
            await self._call_within(session)
            self.run.lease.check()
            key, target = self.opened.entry_id, self._target
            # The heartbeat goes on, on its own connection, while this one may be silent.
            await answered(
                lambda: target.insert_marker(session, key, self.change.id), by=target, writes=True
            )
            await _commit(transaction)

    async def _begin(self, transaction: AsyncExitStack) -> Any:
        return await self.run.patience(
            lambda: transaction.enter_async_context(self._target.announced(self.identity)),
            check=self.run.lease.check_renewed,
        )

    async def _call_within(self, session: Any) -> None:
        objects = self._target.objects(session)
        try:
            await self.call(self.method, objects, guard_objects=False, check=self._check)
        finally:
            self.is_torn = True  # unless the target system says otherwise, in time
            with anyio.move_on_after(_ANSWER_WITHIN, shield=True):
                self.is_torn = await self._target.has_committed(session)

        if self.is_torn:
            raise FlamingockError(_TORN)

    async def _forget_marker(self) -> None:
        await forget_marker(self._target, self.opened.entry_id, self.change.id)

    @property
    def _target(self) -> TransactionalTargetSystem[Any]:
        target = self.run.transactional(self.change.target_system)
        assert target is not None
        return target

    def _check(self) -> None:
        if self.method == "execute":
            self.run.lease.check_renewed()
        else:
            self.run.lease.check()


async def _commit(transaction: AsyncExitStack) -> None:
    """Leave the transaction, not cut off by a cancellation: its outcome must be known."""
    try:
        with anyio.fail_after(_COMMIT_WITHIN, shield=True):
            await transaction.aclose()
    except TimeoutError as exc:
        raise UnknownOutcomeError(
            f"The commit was not answered within {_COMMIT_WITHIN:g} s."
        ) from exc


async def forget_marker(target: TransactionalTargetSystem[Any], key: str, change_id: str) -> None:
    """
    Remove a marker whose outcome is in the log.

    Nobody asks it again. So neither an error nor a cancellation here, which would come after
    APPLIED, may end the attempt as if it had failed.
    """
    with anyio.move_on_after(_FORGOTTEN_WITHIN, shield=True) as scope:
        try:
            await target.remove_marker(key)
        except Exception as exc:  # as above
            logger.warning(
                "The marker of change %r was not removed: %s", change_id, error_line(exc)
            )

    if scope.cancelled_caught:
        logger.warning("The marker of change %r was not removed in time.", change_id)
