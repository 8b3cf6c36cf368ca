"""What there is to run: the pipeline as it stands in the code, and whether it fits the past."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import anyio
import anyio.to_thread

from .._change import Change
from .._pipeline import Pipeline
from .._plan.plan import Plan
from ..abc import TargetSystem, TransactionalTargetSystem
from ..exceptions import ConfigurationError, DriftError, OutOfOrderError, PendingChangesError
from .settings import Settings

logger = logging.getLogger(__name__)

_ASKED_WITHIN = 5.0
_LISTED = 10


async def digest_of(settings: Settings) -> str | None:
    """
    Return the digest of the pipeline and its settings, without importing a change.

    :return: ``None`` if the code of a change has no source
    """
    return await anyio.to_thread.run_sync(_digest, settings)


async def load(settings: Settings) -> Pipeline:
    """
    Import the changes and find all their faults.

    :raises ConfigurationError: that lists every fault
    """
    if not settings.stages:
        raise ConfigurationError("There are no changes: pass changes= or stages=.")

    return await anyio.to_thread.run_sync(_load, settings)


def history_warnings(plan: Plan, settings: Settings) -> tuple[str, ...]:
    """
    Hold a plan against the settings for drift and order.

    :return: sentences for what is tolerated
    :raises DriftError: if an applied change was edited and that is an error
    :raises OutOfOrderError: if a change was inserted before applied ones, likewise
    """
    drifted = plan.drifted if settings.on_drift == "error" else ()
    inserted = plan.out_of_order if settings.on_out_of_order == "error" else ()
    if drifted:
        raise DriftError(drifted + inserted)

    if inserted:
        raise OutOfOrderError(inserted)

    return (
        *plan.warnings,
        *(plan.drifted if settings.on_drift == "warn" else ()),
        *(plan.out_of_order if settings.on_out_of_order == "warn" else ()),
    )


async def check_transactions(changes: Iterable[Change], settings: Settings) -> None:
    """
    Ask the target systems that changes use in transactions whether they have any.

    :param changes: what is about to be carried out; the target systems are open
    :raises ConfigurationError: that names every change whose target system has none
    """
    by_target: dict[str | None, list[Change]] = {}
    for change in changes:
        if change.transactional:
            by_target.setdefault(change.target_system, []).append(change)

    faults: list[ConfigurationError] = []
    for id, concerned in by_target.items():
        if fault := await _lack_of_transactions(settings.targets[id]):
            faults.extend(_fault(change, fault) for change in concerned)

    if faults:
        raise ConfigurationError.joining(faults)


async def _lack_of_transactions(target: TargetSystem) -> ConfigurationError | None:
    if not isinstance(target, TransactionalTargetSystem):
        return None

    with anyio.move_on_after(_ASKED_WITHIN):
        try:
            await target.require_transactions()
        except ConfigurationError as exc:
            return exc
        except Exception as exc:  # of the driver: its change will meet it too, and record it
            logger.info("Whether %r has transactions is not known: %s", target, exc)

    return None


def _fault(change: Change, lack: ConfigurationError) -> ConfigurationError:
    return ConfigurationError(
        f"Change {change.id!r} is to run in a transaction. {lack}",
        file=change.file,
        line=change.line,
    )


def check_nothing_pending(plan: Plan) -> None:
    """
    Let no change pass that a run would work on, but those that are applied in every run.

    :raises PendingChangesError: if there is one, with the plan
    """
    pending = [planned for planned in plan.pending if not planned.is_repeated]
    if not pending:
        return

    counted = "1 change is" if len(pending) == 1 else f"{len(pending)} changes are"
    listed = ", ".join(repr(planned.change.id) for planned in pending[:_LISTED])
    left = len(pending) - _LISTED
    raise PendingChangesError(
        f"{counted} pending: {listed}{f' and {left} more' * (left > 0)}. "
        "Apply them with 'aflamingock apply' or Flamingock.run().",
        plan=plan,
    )


def _digest(settings: Settings) -> str | None:
    from .._discovery.discovery import pipeline_digest  # parsing code takes long to import

    return pipeline_digest(settings.stages, settings=settings.of_digest())


def _load(settings: Settings) -> Pipeline:
    from .._discovery.discovery import read_pipeline

    known = {id for id in settings.targets if id is not None}
    pipeline, faults = read_pipeline(settings.stages, profiles=settings.profiles, targets=known)
    for change in pipeline.changes():
        target = settings.targets.get(change.target_system)
        if target is None:
            continue

        faults.extend(settings.injector.faults(change, target.offers()))
        if change.transactional and getattr(target, "needs_session_parameter", False):
            faults.extend(settings.injector.session_faults(change, target.offers()))

    if faults:
        raise ConfigurationError.joining(faults)

    return pipeline
