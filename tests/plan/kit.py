"""Changes and histories to plan with."""

from __future__ import annotations

from typing import Any

from aflamingock._change import Change
from aflamingock._pipeline import LoadedStage, Pipeline
from aflamingock._plan.decision import Action
from aflamingock._plan.plan import Plan
from aflamingock._records import AuditEntry
from aflamingock._states import AuditState


class WithoutRollback:
    async def execute(self) -> None:
        """Do nothing."""


class WithRollback(WithoutRollback):
    async def rollback(self) -> None:
        """Do nothing."""


class WithVerify(WithRollback):
    async def verify(self) -> None:
        """Tell nothing."""


def change_of(id: str, **values) -> Change:
    given: dict[str, Any] = {"author": "ann", "order": id, "cls": WithRollback, "id": id}
    return Change(**given | values)


def entry_of(id: str, state: str = "APPLIED", **values) -> AuditEntry:
    given: dict[str, Any] = {"service": "s", "execution_id": "before", "change_id": id}
    return AuditEntry(state=AuditState(state), **given | {"sequence": 1} | values)


def pipeline_of(*changes: Change, inactive: frozenset[str] = frozenset()) -> Pipeline:
    return Pipeline((LoadedStage("main", changes),), inactive)


def last_of(*entries: AuditEntry) -> dict[str, AuditEntry]:
    return {entry.change_id or "": entry for entry in entries}


def actions_of(plan: Plan) -> dict[str, Action]:
    return {planned.change.id: planned.action for planned in plan.changes()}
