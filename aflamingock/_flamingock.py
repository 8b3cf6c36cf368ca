"""The façade: what a user builds and runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Any

import anyio

from ._events import Event, Listeners
from ._operations import AuditOperations, LockOperations
from ._options import AuditOptions, LockOptions, OnHistory
from ._payload import error_line
from ._pipeline import Location, Stage
from ._plan.plan import Plan
from ._plan.undo import check_selection
from ._progress import ProgressTracker
from ._report import Progress, RunReport, RunStatus
from ._run.settings import (
    Settings,
    TransactionMode,
    check_choice,
    check_dependencies,
    check_listeners,
    check_metadata,
    check_options,
    check_service,
    check_stages,
    check_store,
    check_targets,
    check_texts,
    check_type,
)
from ._run.survey import check_nothing_pending, load
from ._task import supervised
from .abc import AuditStore, Resource, TargetSystem
from .targets.plain import NonTransactionalTargetSystem

if TYPE_CHECKING:
    from ._run.run import Run

_HEALTH_WITHIN = 5.0


class Flamingock(Resource):
    """
    Runs the changes of an application, exactly once and in order.

    Entering it opens the audit store and no more; each call opens it for itself otherwise. It
    never closes a client that was handed to the store or to a target system. Two of them in one
    process know nothing of each other.

    :param changes: a package's name, a folder, a change class, or a list of these: one stage
    :param stages: the stages, instead of *changes*
    :param audit_store: where the log and the lease are kept
    :param target_systems: what the changes touch
    :param dependencies: what changes may ask for, by name, or a list of objects found by type
    :param service: whose changes these are; services share a store without knowing each other
    :param environment: recorded in every entry
    :param profiles: which changes are active: those with one of these, or without any
    :param lock: the times of the lock
    :param audit: how entries get into the audit store, and how it is asked again
    :param metadata: JSON values, recorded in every entry
    :param listeners: pairs of an event type and a listener, as for :meth:`on`
    :param enabled: if not, :meth:`run` does nothing; to look and to validate is still possible
    :param on_drift: what to do if an applied change was edited
    :param on_out_of_order: what to do if a change was inserted before applied ones
    :param transaction_mode: whether a change and its entry share a transaction where they can
    :raises ConfigurationError: if an argument is wrong; faults of changes are found later
    """

    def __init__(
        self,
        *,
        changes: Location | Sequence[Location] | None = None,
        stages: Iterable[Stage] | None = None,
        audit_store: AuditStore[Any] | None = None,
        target_systems: Iterable[TargetSystem] = (),
        dependencies: Mapping[str, object] | Iterable[object] = (),
        service: str = "default",
        environment: str | None = None,
        profiles: Collection[str] = (),
        lock: LockOptions | None = None,
        audit: AuditOptions | None = None,
        metadata: Mapping[str, Any] | None = None,
        listeners: Iterable[tuple[type[Event], Callable[[Any], object]]] = (),
        enabled: bool = True,
        on_drift: OnHistory = "error",
        on_out_of_order: OnHistory = "error",
        transaction_mode: TransactionMode = "shared",
    ) -> None:
        super().__init__()
        targets = check_targets(target_systems)
        self._settings = Settings(
            stages=check_stages(changes, stages),
            audit_store=check_store(audit_store),
            targets=targets | {None: NonTransactionalTargetSystem("none")},
            dependencies=check_dependencies(dependencies),
            service=check_service(service),
            environment=check_type("environment", environment, str | None, "a text, or None"),
            profiles=check_texts("profiles", profiles),
            lock=check_options("lock", lock, LockOptions),
            audit=check_options("audit", audit, AuditOptions),
            metadata=check_metadata(metadata),
            enabled=check_type("enabled", enabled, bool, "True or False"),
            on_drift=check_choice("on_drift", on_drift, OnHistory),
            on_out_of_order=check_choice("on_out_of_order", on_out_of_order, OnHistory),
            transaction_mode=check_choice("transaction_mode", transaction_mode, TransactionMode),
        )
        self._listeners = Listeners()
        self._tracker = ProgressTracker()
        self.on(Event, self._tracker)
        for kind, listener in check_listeners(listeners):
            self.on(kind, listener)

        self.audit: AuditOperations = AuditOperations(self._new_run)
        self.lock: LockOperations = LockOperations(self._new_run)

    async def _connect(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self._settings.audit_store)

    @property
    def service(self) -> str:
        """Whose changes these are."""
        return self._settings.service

    @property
    def environment(self) -> str | None:
        """What is recorded as the environment."""
        return self._settings.environment

    @property
    def enabled(self) -> bool:
        """Whether :meth:`run` does anything."""
        return self._settings.enabled

    @property
    def audit_store(self) -> AuditStore[Any]:
        """Where the log and the lease are kept."""
        return self._settings.audit_store

    @property
    def target_systems(self) -> tuple[TargetSystem, ...]:
        """What the changes touch."""
        return tuple(target for id, target in self._settings.targets.items() if id is not None)

    @property
    def lock_options(self) -> LockOptions:
        """The times of the lock."""
        return self._settings.lock

    @property
    def progress(self) -> Progress:
        """How far the current or the last run is."""
        return self._tracker.progress

    def on(self, kind: type[Event], listener: Callable[[Any], object]) -> None:
        """
        Call *listener* with every event of a kind.

        :param kind: the class of the events; its subclasses are meant as well
        :param listener: a function or a coroutine function of one argument; what it raises is
            warned of once and disturbs nothing
        :raises ConfigurationError: if *kind* is no class of events, or *listener* no function
        """
        self._listeners.add(kind, listener)

    async def run(self) -> RunReport:
        """
        Apply what is pending, or find that nothing is.

        Waits while another instance works. A cancellation ends it cleanly: what was begun is
        rolled back, the lease is given back.

        :raises ConfigurationError: if anything is wrong with the changes; nothing was run
        :raises DriftError: if an applied change was edited; nothing was run
        :raises OutOfOrderError: if a change was inserted before applied ones; nothing was run
        :raises ChangeFailedError: if a change raised
        :raises ManualInterventionError: if a person has to say what became of a change
        :raises LockTimeoutError: if another instance works for longer than the lock's timeout
        :raises LockLostError: if the lease ended before the work
        :raises AuditStoreError: if the audit store cannot be used
        """
        if not self._settings.enabled:
            return RunReport.of_nothing(self.service, RunStatus.DISABLED)

        async with self:
            return await supervised(self._new_run().perform)

    async def plan(self) -> Plan:
        """
        Say what :meth:`run` would do. Takes no lease and writes nothing.

        :raises ConfigurationError: if anything is wrong with the changes
        """
        async with self:
            return await self._plan_now(self._new_run())

    async def validate(self) -> None:
        """
        Make sure that nothing is pending. Takes no lease and writes nothing.

        :raises PendingChangesError: if something is, with the plan
        :raises ManualInterventionError: if a person has to say what became of a change
        :raises DriftError: and the like, as for :meth:`run`
        """
        async with self:
            run = self._new_run()
            if not await run.is_up_to_date():
                pipeline = await load(self._settings)
                plan = await run.plan(pipeline)
                run.check_history(plan)
                plan = await run.check_blocked(plan, pipeline)
                check_nothing_pending(plan)

            self._tracker.found_nothing_pending()

    async def undo(
        self,
        *,
        last: int | None = None,
        to: str | None = None,
        since: datetime | None = None,
        change_id: str | None = None,
        dry_run: bool = False,
    ) -> RunReport:
        """
        Roll back applied changes, newest first; audited like a run.

        Exactly one of the first four says which.

        :param last: the last so many
        :param to: all that were applied after this change, which stays
        :param since: all that were applied at this time, which is aware, or later
        :param change_id: this one alone
        :param dry_run: write nothing, and report what would be rolled back
        :raises ConfigurationError: if one of them cannot be undone; nothing was done
        :raises RollbackFailedError: if a rollback raised
        """
        selection: dict[str, Any] = {
            "count": last,
            "to": to,
            "since": since,
            "change_id": change_id,
        }
        check_selection(**selection)
        async with self:
            from ._run.undo import undo  # as in _new_run

            run = self._new_run()
            return await supervised(lambda: undo(run, dry_run=dry_run, **selection))

    async def health(self) -> dict[str, str]:
        """Say within five seconds whether the audit store answers; count retries; never raise."""
        try:
            with anyio.fail_after(_HEALTH_WITHIN):
                async with self:
                    await self._settings.audit_store.last(self.service, 1)
        except Exception as exc:  # the answer to the question, whatever it is
            return {
                "status": "down",
                "audit-store": "Unavailable",
                "error": error_line(exc),
            }

        return {"status": "up", "audit-store": "Available", **self._settings.retries.told()}

    async def _plan_now(self, run: Run) -> Plan:
        return await run.plan(await load(self._settings))

    def _new_run(self, user: str | None = None) -> Run:
        from ._run.run import Run  # who only builds a Flamingock need not wait for the engine

        return Run(self._settings, self._listeners, user=user)


async def run_changes(
    changes: Location | Sequence[Location],
    *,
    audit_store: AuditStore[Any],
    target_systems: Iterable[TargetSystem] = (),
    **options: Any,
) -> RunReport:
    """
    Apply what is pending, in one call.

    :param changes: a package's name, a folder, a change class, or a list of these
    :param options: the other arguments of :class:`Flamingock`
    :raises FlamingockError: as :meth:`Flamingock.run` does
    """
    flamingock = Flamingock(
        changes=changes, audit_store=audit_store, target_systems=target_systems, **options
    )
    return await flamingock.run()
