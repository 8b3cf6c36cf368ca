"""The plan: what to do with each change. A pure function of the pipeline and the history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .._change import Change
from .._pipeline import Pipeline
from .._records import AuditEntry
from .._states import AuditState
from .decision import Action, is_applied, is_drift, next_action


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlannedChange:
    """
    A change with its action.

    :ivar state: where its last entry left it; ``None`` if there is none
    :ivar reason: why the action, as a sentence
    """

    change: Change
    action: Action
    state: AuditState | None
    reason: str

    @property
    def is_repeated(self) -> bool:
        """Whether it is applied, and applied again because it is in every run."""
        applied = (AuditState.APPLIED, AuditState.MANUAL_MARKED_AS_APPLIED)
        return self.action is Action.APPLY and self.state in applied

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "changeId": self.change.id,
            "order": self.change.order,
            "author": self.change.author,
            "targetSystem": self.change.target_system,
            "file": self.change.file,
            "tags": list(self.change.tags),
            "action": self.action.value,
            "state": self.state and self.state.value,
            "reason": self.reason,
            "rollbackAvailable": self.change.has_rollback,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlannedStage:
    """A stage with an action for each of its changes, in their order."""

    name: str
    changes: tuple[PlannedChange, ...]

    @property
    def is_blocked(self) -> bool:
        """Whether a person has to look at one of the changes before the stage may run."""
        return any(planned.action is Action.MANUAL_INTERVENTION for planned in self.changes)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"name": self.name, "changes": [planned.to_dict() for planned in self.changes]}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """
    What a run would do; making one changes nothing.

    :ivar unknown: the ids of applied changes that are gone from the code
    :ivar drifted: a sentence for each applied change that is not the same in the code any more
    :ivar out_of_order: a sentence for each new change that stands before applied ones
    :ivar warnings: sentences for what is tolerated
    """

    stages: tuple[PlannedStage, ...]
    unknown: tuple[str, ...] = ()
    drifted: tuple[str, ...] = ()
    out_of_order: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def changes(self) -> Iterator[PlannedChange]:
        """Yield every change with its action."""
        for stage in self.stages:
            yield from stage.changes

    @property
    def pending(self) -> tuple[PlannedChange, ...]:
        """The changes that a run would work on."""
        idle = (Action.SKIP, Action.MANUAL_INTERVENTION)
        return tuple(planned for planned in self.changes() if planned.action not in idle)

    @property
    def blocked(self) -> tuple[PlannedChange, ...]:
        """The changes that need a person."""
        return tuple(
            planned for planned in self.changes() if planned.action is Action.MANUAL_INTERVENTION
        )

    @property
    def is_empty(self) -> bool:
        """Whether everything is applied."""
        return not self.pending and not self.blocked

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "stages": [stage.to_dict() for stage in self.stages],
            "pending": len(self.pending),
            "blocked": len(self.blocked),
            "unknown": list(self.unknown),
            "drifted": list(self.drifted),
            "outOfOrder": list(self.out_of_order),
            "warnings": list(self.warnings),
        }


def make_plan(
    pipeline: Pipeline, last: Mapping[str, AuditEntry], *, execution_id: str = ""
) -> Plan:
    """
    Decide on every change of a pipeline.

    :param last: the last entry of each change, by its id
    :param execution_id: the run that asks; what it has applied itself is done, also if the change
        is to be applied in every run
    """
    known = {change.id for change in pipeline.changes()} | pipeline.inactive
    unknown = tuple(id for id, entry in last.items() if id not in known and is_applied(entry))
    stages = tuple(
        PlannedStage(
            name=stage.name,
            changes=tuple(
                plan_change(change, last.get(change.id), execution_id) for change in stage.changes
            ),
        )
        for stage in pipeline.stages
    )
    return Plan(
        stages=stages,
        unknown=unknown,
        drifted=tuple(_drifted(pipeline, last)),
        out_of_order=tuple(_out_of_order(stages)),
        warnings=tuple(f"Change {id!r} is applied, but is gone from the code." for id in unknown),
    )


def plan_change(change: Change, entry: AuditEntry | None, execution_id: str = "") -> PlannedChange:
    """
    Decide on one change.

    :param entry: its last entry
    :param execution_id: as in :func:`make_plan`
    """
    action = next_action(entry, has_verify=change.has_verify, recovery=change.recovery)
    if action is Action.SKIP and change.run_always and entry is not None:
        action = Action.SKIP if entry.execution_id == execution_id else Action.APPLY

    return PlannedChange(
        change=change,
        action=action,
        state=entry.state if entry else None,
        reason=_reason(action, entry),
    )


def _drifted(pipeline: Pipeline, last: Mapping[str, AuditEntry]) -> Iterator[str]:
    for change in pipeline.changes():
        entry = last.get(change.id)
        if change.run_always or entry is None or not is_applied(entry):
            continue

        if is_drift(entry.checksum, change.checksum):
            yield (
                f"Change {change.id!r} ({change.file}) was applied on {entry.created_at:%Y-%m-%d} "
                "and has been edited since. Take the edit back and write a new change."
            )


def _out_of_order(stages: Iterable[PlannedStage]) -> Iterator[str]:
    for stage in stages:
        applied_after: str | None = None
        for planned in reversed(stage.changes):
            if planned.state is None and applied_after is not None:
                yield (
                    f"Change {planned.change.id!r} ({planned.change.file}) is new, but stands "
                    f"before {applied_after!r}, which is applied. Give it a later order."
                )
            elif planned.state is not None and planned.action is Action.SKIP:
                applied_after = planned.change.id


_REASONS = {
    Action.RESOLVE_MARKER: "The marker in the target system tells whether it was committed.",
    Action.VERIFY: "It was left unfinished; its verify tells what really happened.",
    Action.ROLL_BACK: "Its rollback was left unfinished; it is rolled back, then applied again.",
    Action.MANUAL_INTERVENTION: "It was left unfinished; a person has to say what became of it.",
}


def _reason(action: Action, entry: AuditEntry | None) -> str:
    if entry is None:
        return "It was never applied."

    if action is Action.APPLY and entry.state is AuditState.STARTED:
        return "It was started, and surely did not happen or may be repeated."

    if action is Action.APPLY and is_applied(entry):
        return "It is applied in every run."

    if action in _REASONS:
        return _REASONS[action]

    return f"Its last state is {entry.state}."
