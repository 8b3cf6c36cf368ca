"""What a scenario draws: changes, actions of users, and misfortunes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import anyio

from aflamingock import Event, Flamingock, Recovery

from .changes import ChangePlan
from .process import Process
from .world import World

if TYPE_CHECKING:
    from .scenario import Scenario


_MOMENTS = (
    *("granted", "granted", "granted", "read", "swap", "append", "append", "append within"),
    *("begin", "statement", "marker", "commit", "commit", "commit", "commit", "claim", "claim"),
    *("unmark", "rollback", "effect", "create", "connect"),
)


def focus(draw: Random) -> str:
    """Return the moment around which most of the misfortunes happen."""
    return draw.choice(_MOMENTS)


def stages(draw: Random) -> list[list[ChangePlan]]:
    """Return the changes of one stage or two."""
    count = draw.choice((1, 1, 2, 2, 3, 4))
    plans = [_plan(draw, f"c{number}") for number in range(1, count + 1)]
    cut = draw.randint(1, count) if count > 1 and draw.random() < 0.5 else count
    return [part for part in (plans[:cut], plans[cut:]) if part]


def _plan(draw: Random, id: str) -> ChangePlan:
    target = draw.choice(("shared", "shared", "separate", "separate", "plain", "plain"))
    return ChangePlan(
        id=id,
        target=target,
        transactional=target == "plain" or draw.random() < 0.9,
        recovery=draw.choice((Recovery.MANUAL_INTERVENTION, Recovery.ALWAYS_RETRY)),
        has_rollback=draw.random() < 0.8,
        has_verify=draw.random() < 0.3,
        timeout=draw.choice((None, None, None, 3.0)),
        steps=draw.randint(1, 3),
        pause=draw.choice((0.0, 0.01, 0.5, 3.0)),
        failures=draw.choice((0, 0, 0, 0, 1, 2)),
        rollback_failures=draw.choice((0, 0, 0, 1)),
    )


def actions(scenario: Scenario) -> list[str]:
    """Return what a process does, one thing after the other."""
    draw = scenario.world.random
    known = ["run"] * 14 + ["undo", "undo one", "validate", "plan", "status"]
    if not scenario.is_tame:
        known.append("release")

    return ["run" if draw.random() < 0.6 else draw.choice(known) for _ in range(draw.randint(1, 2))]


def call_of(
    flamingock: Flamingock, action: str, scenario: Scenario
) -> Callable[[], Awaitable[object]]:
    """Return what an action calls."""
    match action:
        case "undo":
            return partial(flamingock.undo, last=scenario.world.random.randint(1, 2))
        case "undo one":
            return partial(
                flamingock.undo, change_id=scenario.world.random.choice(list(scenario.plans))
            )
        case "validate":
            return flamingock.validate
        case "plan":
            return flamingock.plan
        case "status":
            return flamingock.lock.status
        case "release":
            return partial(flamingock.lock.release, force=True)
        case _:
            return flamingock.run


def misfortunes(scenario: Scenario, process: Process) -> None:
    """Plan what happens to a process, and at which of its steps."""
    draw = scenario.world.random
    for probability, misfortune in (
        (0.45, _kill),
        (0.35, partial(_stop, scenario)),
        (0.2, partial(_stop, scenario)),
        (0.15, partial(_block, scenario)),
        (0.15, partial(_cut_off, scenario)),
        (0.12, Process.interrupt),
        (0.1, partial(_step, scenario)),
    ):
        if draw.random() < probability:
            if draw.random() < 0.5:
                process.plans[int(10 ** draw.uniform(0.5, 2.5))] = misfortune
            else:
                process.plans_at[scenario.focus, draw.choice((1, 1, 1, 2, 3))] = misfortune


def steps_of_clock(scenario: Scenario) -> None:
    """Let the clock of the audit store step: forward only where clocks are out of order anyway."""
    draw = scenario.world.random
    for _ in range(draw.choice((0, 0, 0, 1, 2))):
        seconds = draw.choice((scenario.ttl / 2, 2 * scenario.ttl, 3600.0))
        if scenario.is_tame or draw.random() < 0.5:
            seconds = -seconds

        later = 3 * scenario.ttl * draw.random()
        scenario.world.after(later, partial(scenario.main.step_clock, seconds))


def listeners(world: World) -> list[tuple[type[Event], Callable[[Any], object]]]:
    """Return listeners, good and bad."""

    async def slow(event: Event) -> None:
        await anyio.sleep(world.random.choice((0.01, 6.0)))

    def bad(event: Event) -> None:
        raise ValueError("This listener does not work.")

    return [(Event, listener) for listener in (slow, bad) if world.chance(0.1)]


def _kill(process: Process) -> None:
    process.kill()


def _stop(scenario: Scenario, process: Process) -> None:
    seconds = scenario.ttl * scenario.world.random.choice((0.1, 0.3, 0.6, 1.0, 1.3, 1.7, 3.0))
    scenario.has_long_stops |= seconds > scenario.ttl / 4
    process.stop(seconds)


def _block(scenario: Scenario, process: Process) -> None:
    scenario.has_long_stops = True
    process.block(scenario.ttl * scenario.world.random.choice((0.3, 1.0, 3.0)))


def _cut_off(scenario: Scenario, process: Process) -> None:
    process.cut_off(scenario.ttl * scenario.world.random.choice((0.3, 1.0, 2.0)))


def _step(scenario: Scenario, process: Process) -> None:
    process.wall_offset += scenario.world.random.choice((-86400.0, -3600.0, 3600.0))
