"""Wait until somebody else has applied what is pending."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence

import anyio

from .._flamingock import Flamingock
from .._lease import LeaseStatus
from ..exceptions import ManualInterventionError, PendingChangesError

logger = logging.getLogger(__name__)

_TELLING_INTERVAL = 10.0
_SHOWN = 5


async def wait_until_applied(flamingock: Flamingock) -> None:
    """
    Return when nothing is pending.

    What is waited for is logged at once and every ten seconds.

    :raises PendingChangesError: if changes are still pending after the lock's timeout
    :raises ManualInterventionError: if a change needs a person, and nobody is at work on it
    """
    options = flamingock.lock_options
    end = anyio.current_time() + options.timeout
    next_telling = 0.0
    while True:
        error = await _obstacle(flamingock)
        if error is None:
            return

        now = anyio.current_time()
        if now >= end:
            raise error

        if now >= next_telling:
            next_telling = now + _TELLING_INTERVAL
            await _tell(flamingock, error, end - now)

        await anyio.sleep(min(random.uniform(0.5, 1.5) * options.retry_interval, end - now))


async def _obstacle(
    flamingock: Flamingock,
) -> PendingChangesError | ManualInterventionError | None:
    before = await flamingock.lock.status()
    try:
        await flamingock.validate()
    except PendingChangesError as exc:
        return exc
    except ManualInterventionError as exc:
        # A change at work reads as one that was left unfinished; its runner's lease tells them
        # apart, if it was nobody's during the whole look.
        if _is_nobodys(before, await flamingock.lock.status()):
            raise

        return exc

    return None


def _is_nobodys(before: LeaseStatus, after: LeaseStatus) -> bool:
    if before.held or after.held:
        return False

    return (before.lease and before.lease.epoch) == (after.lease and after.lease.epoch)


async def _tell(
    flamingock: Flamingock, error: PendingChangesError | ManualInterventionError, rest: float
) -> None:
    status = await flamingock.lock.status()
    holder = f"at work is {status.lease}" if status.held else "nobody is at work on them"
    logger.warning(
        "Waiting until changes are applied by somebody else, for %.0f s more: %s; %s.",
        rest,
        _listed(_change_ids(error)),
        holder,
        extra={"action": "wait"},
    )


def _change_ids(error: PendingChangesError | ManualInterventionError) -> Sequence[str]:
    if isinstance(error, ManualInterventionError):
        return [issue.change_id for issue in error.issues]

    return [planned.change.id for planned in error.plan.pending]


def _listed(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(ids[:_SHOWN]) + more
