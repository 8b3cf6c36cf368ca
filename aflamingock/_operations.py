"""What an operator does: look at the audit, resolve issues, free the lease."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ._change import Change
from ._issues import close_issue, is_issue, issue_of, open_issues
from ._lease import LeaseStatus
from ._payload import storable_text
from ._pipeline import Pipeline
from ._records import AuditEntry, Issue
from ._run.survey import load
from ._states import AuditState, AuditType, Resolution
from ._task import finished, supervised
from .exceptions import ConfigurationError, LockError, SequenceConflictError

if TYPE_CHECKING:
    from ._run.run import Run

logger = logging.getLogger(__name__)

_IN_A_REASON = 2_000
_RECORDED_WITHIN = 10.0
_TRIES = 5

NewRun = Callable[[str | None], "Run"]
"""Begins a run, in the name of a user if one is given."""


class AuditOperations:
    """
    Reads the audit log and resolves issues; ``flamingock.audit``.

    The audit store is opened for each call if it is not open.
    """

    def __init__(self, new_run: NewRun) -> None:
        self._new_run = new_run

    async def entries(self, *, after: int = 0) -> AsyncIterator[AuditEntry]:
        """
        Yield every entry of the service, oldest first; memory does not grow with the log.

        :param after: only those numbered above this
        """
        run = self._new_run(None)
        async with run.settings.audit_store as store:
            async for entry in store.entries(run.settings.service, after=after):
                yield entry

    async def issues(self) -> tuple[Issue, ...]:
        """
        Return the changes that need a person, in the order in which they came up.

        Read from the log; the kept records are for those who read the database.
        """
        run = self._new_run(None)
        async with run.settings.audit_store:
            pipeline = await _known_pipeline(run)
            await run.log.read()
            found = open_issues(run.log.history.last, pipeline.changes() if pipeline else ())
            return tuple(
                [
                    issue_of(await run.log.entry(run.log.history.last[i.change_id].sequence))
                    for i in found
                ]
            )

    async def resolve(
        self,
        change_id: str,
        resolution: Resolution,
        *,
        reason: str | None = None,
        by: str | None = None,
    ) -> AuditEntry:
        """
        Say what became of a change that was left in doubt.

        Written under the lease, at the place after what was read, so that a zombie is fenced.

        :param reason: for the log
        :param by: who says so; the user of this process by default
        :return: the entry that was written
        :raises ConfigurationError: if the change is no issue
        :raises LockTimeoutError: if a run holds the lease; it is not waited for
        """
        run = self._new_run(by)
        async with run.settings.audit_store:
            return await supervised(
                lambda: _resolve(run, change_id, Resolution(resolution), reason)
            )


class LockOperations:
    """
    Looks at the lease and frees it; ``flamingock.lock``.

    The audit store is opened for each call if it is not open.
    """

    def __init__(self, new_run: NewRun) -> None:
        self._new_run = new_run

    async def status(self) -> LeaseStatus:
        """Look at the lease."""
        run = self._new_run(None)
        async with run.settings.audit_store:
            return await run.lock.status()

    async def release(
        self, *, force: bool = False, reason: str | None = None, by: str | None = None
    ) -> LeaseStatus:
        """
        Take the lease away from whoever holds it. That run is fenced: it can write no more.

        Hardly ever needed, since the lease of a dead run expires by itself.

        :param force: take it from a run that may be alive
        :param reason: for the log
        :param by: who does it; the user of this process by default
        :return: what there was to release
        :raises LockError: if it is held and *force* is not given, or it was renewed meanwhile
        """
        run = self._new_run(by)
        async with run.settings.audit_store:
            status = await run.lock.status()
            if status.state == "free":
                return status

            if status.held and not force:
                raise LockError(
                    f"The lease is held by {status.lease}, which may be alive. It expires by "
                    "itself if that run is dead; force=True (--force) takes it away all the same."
                )

            await run.log.read()
            if run.log.history.sequence == 0:
                await run.patience(run.settings.audit_store.create)

            async def release() -> None:
                released = await run.lock.release_by_force(above=run.log.history.epoch)
                if released is None:
                    raise LockError("The lease was renewed or given back meanwhile. Look again.")

                await _record_release(run, released.epoch, status, reason)

            # what was taken away stands in the log, also if the caller is cancelled meanwhile
            await supervised(lambda: finished(release, budget=lambda: _RECORDED_WITHIN))
            return status


async def _resolve(
    run: Run, change_id: str, resolution: Resolution, reason: str | None
) -> AuditEntry:
    pipeline = await _known_pipeline(run)
    await run.log.read()
    change = pipeline.find(change_id) if pipeline else None
    _check_issue(run.log.history.last.get(change_id), change_id, change)
    async with run.lock.hold(above=run.log.history.epoch, wait=False) as lease:
        assert lease is not None
        run.log.work_under(lease)
        await run.log.read()
        entry = _check_issue(run.log.history.last.get(change_id), change_id, change)
        issue = issue_of(await run.log.entry(entry.sequence))
        (written,) = await run.log.append(_resolved(run, entry, resolution, reason))

    await close_issue(
        run.settings.audit_store,
        issue,
        resolution,
        by=written.initiated_by,
        reason=storable_text(reason or "", _IN_A_REASON),
    )
    logger.info("Change %r is resolved: %s.", change_id, written.state)
    return written


async def _record_release(run: Run, epoch: int, status: LeaseStatus, reason: str | None) -> None:
    metadata = {"reason": storable_text(reason or "", _IN_A_REASON), "holder": str(status.lease)}
    entry = run.origin.system_entry(AuditType.LOCK_RELEASED, epoch=epoch, metadata=metadata)
    for _ in range(_TRIES):
        if run.log.history.epoch > epoch:  # who holds the lease by now has fenced the old holder
            logger.warning("The lease was released, and taken before an entry could tell of it.")
            return

        try:
            await run.log.append(entry)
        except SequenceConflictError:
            continue  # the holder has written once more: read by now, and fenced by the next try
        else:
            return

    raise LockError("The lease is released, but the audit log would not take the entry of it.")


async def _known_pipeline(run: Run) -> Pipeline | None:
    """Return today's code if there is any that can be loaded: an operator is not stopped by it."""
    if not run.settings.stages:
        return None

    try:
        return await load(run.settings)
    except ConfigurationError as exc:
        logger.warning("The changes cannot be loaded; the stored recovery counts. %s", exc)
        return None


def _check_issue(entry: AuditEntry | None, change_id: str, change: Change | None) -> AuditEntry:
    if entry is None:
        raise ConfigurationError(
            f"The audit log does not know a change {change_id!r}. See 'aflamingock issue list'."
        )

    if not is_issue(entry, change):
        raise ConfigurationError(
            f"Change {change_id!r} is no issue: its last state is {entry.state} "
            f"({entry.tx_strategy}), and the next run knows what to do. Nothing was written."
        )

    return entry


def _resolved(
    run: Run, entry: AuditEntry, resolution: Resolution, reason: str | None
) -> AuditEntry:
    applied = resolution is Resolution.APPLIED
    system = run.origin.system_entry(AuditType.EXECUTION)
    return replace(
        entry,
        entry_id=system.entry_id,
        created_at=system.created_at,
        state=(
            AuditState.MANUAL_MARKED_AS_APPLIED
            if applied
            else AuditState.MANUAL_MARKED_AS_ROLLED_BACK
        ),
        execution_id=system.execution_id,
        execution_hostname=system.execution_hostname,
        initiated_by=system.initiated_by,
        environment=system.environment,
        execution_millis=0,
        error_trace=None,
        metadata={**system.metadata, "reason": storable_text(reason or "", _IN_A_REASON)},
    )
