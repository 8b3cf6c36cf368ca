"""Wait until somebody else has applied what is pending."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence

import anyio

from .._flamingock import Flamingock
from ..exceptions import PendingChangesError

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


async def _obstacle(flamingock: Flamingock) -> PendingChangesError | None:
    try:
        await flamingock.validate()
    except PendingChangesError as exc:
        return exc

    return None


async def _tell(flamingock: Flamingock, error: PendingChangesError, rest: float) -> None:
    unfinished = [*error.plan.pending, *error.plan.blocked]
    status = await flamingock.lock.status()
    holder = f"at work is {status.lease}" if status.held else "nobody is at work on them"
    logger.warning(
        "Waiting until changes are applied by somebody else, for %.0f s more: %s; %s.",
        rest,
        _listed([planned.change.id for planned in unfinished]),
        holder,
        extra={"action": "wait"},
    )


def _listed(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(ids[:_SHOWN]) + more
