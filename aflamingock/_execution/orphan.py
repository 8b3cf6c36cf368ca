"""Transactions that a process has left open behind it, and that outlive it in the database."""

from __future__ import annotations

import logging
from functools import partial

from .._payload import error_trace
from .._records import AuditEntry
from .._states import AuditState, TxStrategy
from ..exceptions import LockError
from .context import RunContext

logger = logging.getLogger(__name__)

TRANSACTION = "transactionId"
"""Under which name the metadata of an opening entry tells what its transaction is known as."""

_OPENINGS = (AuditState.STARTED, AuditState.ROLLBACK_STARTED)


async def end_orphans(run: RunContext) -> None:
    """
    End what runs before this one have begun and not closed, by the log as it stands.

    The lease is held: whoever began them is gone, or must not go on. What they have written is
    locked for others as long as the database does not know that.
    """
    for entry in run.log.history.last.values():
        if entry.state in _OPENINGS and entry.tx_strategy is not TxStrategy.NON_TX:
            await _end(run, entry)


async def _end(run: RunContext, entry: AuditEntry) -> None:
    target = run.transactional(entry.target_system_id)
    identity = entry.metadata.get(TRANSACTION)
    if target is None or not isinstance(identity, str):
        return

    try:
        await run.patience(partial(target.end_orphan, identity), check=run.lease.check)
    except LockError:
        raise
    except Exception as exc:  # the database ends it by itself, in the end
        logger.warning(
            "The transaction that change %r was left in could not be ended: %s",
            entry.change_id,
            error_trace(exc),
        )
        return

    logger.info("The transaction that change %r was left in is ended.", entry.change_id)
