"""The changes of simulated pipelines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from aflamingock import ChangeContext, Recovery, Verification, change

from .target import Effects


@dataclass(frozen=True, kw_only=True)
class ChangePlan:
    """
    What a change is, and does.

    :ivar steps: how many effects it has
    :ivar pause: how long it waits after each of them
    :ivar failures: how many of its calls fail
    """

    id: str
    target: str
    recovery: Recovery = Recovery.MANUAL_INTERVENTION
    transactional: bool = True
    has_rollback: bool = True
    has_verify: bool = False
    timeout: float | None = None
    steps: int = 1
    pause: float = 0.0
    failures: int = 0
    rollback_failures: int = 0

    @property
    def is_repeatable(self) -> bool:
        """Whether doing it once more does no harm."""
        return self.recovery is Recovery.ALWAYS_RETRY

    @property
    def is_transactional(self) -> bool:
        """Whether it runs in a transaction."""
        return self.transactional and self.target != "plain"

    def declared(self) -> type:
        """Return the change."""
        return _declared(
            id=self.id,
            target_system=self.target,
            recovery=self.recovery,
            transactional=self.transactional,
            timeout=self.timeout,
            has_rollback=self.has_rollback,
            has_verify=self.has_verify,
        )


@cache
def _declared(*, id: str, has_rollback: bool, has_verify: bool, **options: Any) -> type:
    class Step:
        async def execute(self, effects: Effects, context: ChangeContext) -> None:
            await effects.perform("execute", context)

    class Reversible(Step):
        async def rollback(self, effects: Effects, context: ChangeContext) -> None:
            await effects.perform("rollback", context)

    async def verify(self: object, effects: Effects, context: ChangeContext) -> Verification:
        return await effects.verify(context)

    declared: type = type("Made", (Reversible if has_rollback else Step,), {})
    if has_verify:
        declared.verify = verify  # type: ignore[attr-defined]  # an optional method

    return change(id=id, author="simulation", order=id, **options)(declared)
