"""One simulation from its seed to its verdict."""

from __future__ import annotations

import gc
import hashlib
from dataclasses import dataclass
from typing import Any

from aflamingock import AuditState, Flamingock, FlamingockError, Resolution
from aflamingock._plan.decision import is_applied
from aflamingock.exceptions import ManualInterventionError

from ..history.checker import violations
from .process import Process, unwind
from .scenario import Scenario
from .stand_in import simulated

_DRAIN = 200.0
_COLLECT_EVERY = 20


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a seed."""

    seed: int
    violations: tuple[str, ...]
    trace: tuple[tuple[Any, ...], ...]

    @property
    def fingerprint(self) -> str:
        """Return a digest of the trace."""
        return hashlib.sha256(repr(self.trace).encode()).hexdigest()

    def __str__(self) -> str:
        """Return the trace, and what is wrong."""
        lines = [
            f"{time:12.4f} {who:8} {' '.join(map(str, what))}" for time, who, *what in self.trace
        ]
        return "\n".join([*lines, f"seed {self.seed}", *self.violations])


def simulate(seed: int, focus: str | None = None) -> Outcome:
    """Simulate a seed: chaos, then calm, then a last run that must find everything in order."""
    scenario = Scenario(seed, focus)
    world = scenario.world
    with simulated(scenario):
        scenario.chaos()
        world.is_calm = True
        world.pass_time(_DRAIN)
        _judge(scenario)
        found = [*world.violations, *violations(scenario.history()), *_effects(scenario)]
        trace = tuple(world.trace)
        unwind(world)

    if seed % _COLLECT_EVERY == 0:
        gc.collect()

    return Outcome(seed=seed, violations=tuple(found), trace=trace)


def _judge(scenario: Scenario) -> None:
    process = Process(scenario.world, "Z", rate=1.0)
    process.start(_last_run(scenario, process))
    within = scenario.ttl * 4 + 300.0
    if not scenario.world.run(until=lambda: not process.is_alive, within=within):
        scenario.world.violated("I9", "the last run has come to no end")


async def _last_run(scenario: Scenario, process: Process) -> None:
    flamingock = scenario.build(process)
    for _ in range(len(scenario.plans) + 1):
        error = await scenario.attempt(process, flamingock.run)
        if error != ManualInterventionError.__name__:
            break

        for issue in await flamingock.audit.issues():
            await _resolve(scenario, flamingock, issue.change_id)

    try:
        await flamingock.validate()
    except FlamingockError as exc:
        scenario.world.violated("I9", f"something is left undone at the end: {exc!r}")


async def _resolve(scenario: Scenario, flamingock: Flamingock, change_id: str) -> None:
    """Say what a person finds who looks at the target system, and who cleans up what is half."""
    effects, plan = scenario.other.effects, scenario.plans[change_id]
    if plan.target != "plain" and not plan.is_transactional:
        effects = (scenario.main if plan.target == "shared" else scenario.other).effects

    keys = [(change_id, step) for step in range(plan.steps)]
    if all(effects[key] for key in keys):
        await flamingock.audit.resolve(change_id, Resolution.APPLIED)
        return

    for key in keys:
        effects[key] = 0

    await flamingock.audit.resolve(change_id, Resolution.ROLLED_BACK)


def _effects(scenario: Scenario) -> list[str]:
    """Hold what stands in the target systems at the end against the log."""
    found = []
    last = {entry.change_id: entry for entry in scenario.history().entries}
    for plan in scenario.plans.values():
        database = scenario.main if plan.target == "shared" else scenario.other
        counts = [database.effects[plan.id, step] for step in range(plan.steps)]
        entry = last.get(plan.id)
        if entry is None or not is_applied(entry):
            found.append(f"I9: {plan.id} is not applied at the end: {entry and entry.state}")
            continue

        surely = plan.is_transactional or scenario.is_tame
        manual = entry.state is AuditState.MANUAL_MARKED_AS_APPLIED
        if surely and not manual and counts != [1] * plan.steps:
            found.append(f"I4: the effects of {plan.id} stand {counts} times")

    return found
