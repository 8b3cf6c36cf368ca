"""
Random faults of the network under runs of a service, and what must be true after them.

``python -m tests.network.chaos --schedules N --seed S`` runs on every database that is there.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from uuid import uuid4

import anyio

from aflamingock import AuditEntry, AuditState, FlamingockError, Recovery, TxStrategy
from tests.network.kit import Mode, service
from tests.network.places import PLACES
from tests.network.system import System
from tests.processes.kit import check_log
from tests.servers.proxy import (
    Fault,
    Proxy,
    delay,
    lost_answer,
    lost_call,
    pass_on,
    silent_answer,
    silent_call,
)

_RUNS = 4
_LOCK = {"ttl": 3.0, "timeout": 20.0, "retry_interval": 0.2}
_RUN_WITHIN = 150.0
"""More than this is a hang: the limits of the drivers add up to less."""

# Values, because statements are prepared once and then called by their numbers.
_WRITES = {
    "commit": re.compile(rb"(?<!AUTO)COMMIT\b|commitTransaction|TransactWriteItems\b.*effects"),
    "append": re.compile(rb"STARTED|APPLIED|FAILED|ROLLED_BACK"),
    "lease": re.compile(rb"released\W+(?:true|false)"),
    "marker": re.compile(rb"COMMITTED|ABORTED"),
}


def kind_of(request: bytes) -> str | None:
    """Return what a request writes, or nothing if it only reads."""
    return next((kind for kind, pattern in _WRITES.items() if pattern.search(request)), None)


class Weather:
    """
    Draws a fault for each request.

    :param draw: the random numbers of this runner
    :param severity: how likely a fault is
    """

    def __init__(self, draw: random.Random, severity: float) -> None:
        self._draw = draw
        self._severity = severity

    def __call__(self, request: bytes) -> Fault:
        """Return what happens to a request."""
        writes = kind_of(request) is not None
        if self._draw.random() >= self._severity * (1.0 if writes else 0.15):
            return pass_on

        if writes:
            faults, weights = [lost_answer, lost_call, silent_answer, silent_call], [10, 2, 1, 0.5]
        else:
            faults, weights = [lost_answer, lost_call, silent_answer], [2, 2, 0.3]

        late = delay(self._draw.choice([0.05, 0.3, 1.0, 2.5]))
        return self._draw.choices([*faults, late], [*weights, 2])[0]


class Schedule:
    """
    Some runs of one service, of which two at a time, and a clean one at their end.

    :param seed: decides on everything but the time that servers take
    """

    def __init__(self, system: System, seed: str) -> None:
        self._system = system
        self._draw = random.Random(seed)
        self._service = f"s{uuid4().hex}"
        self._mode: Mode = self._draw.choice(["shared", "separate"])
        self._severity = self._draw.choice([0.2, 0.35, 0.5])
        self._changes = self._make_changes()
        self.violations: list[str] = []
        self.lost: Counter[str] = Counter()

    def _make_changes(self) -> Sequence[type]:
        changes = []
        for id in "abcd":
            kind = self._draw.choice(["tx", "tx", "verify", "retry"])
            changes.append(
                self._system.change(
                    id,
                    transactional=kind == "tx",
                    has_verify=kind == "verify",
                    recovery=Recovery.ALWAYS_RETRY
                    if kind != "tx"
                    else Recovery.MANUAL_INTERVENTION,
                )
            )

        return changes

    async def run(self) -> None:
        """Run it all; what is wrong stands in the attributes."""
        with ExitStack() as stack:
            proxies = []
            for _ in range(2):
                proxies.append(await asyncio.to_thread(self._system.proxy))
                stack.callback(proxies[-1].stop)
                proxies[-1].linger = self._draw.choice([0.0, 0.0, 1.5])

            async with anyio.create_task_group() as tasks:
                for proxy in proxies:
                    tasks.start_soon(self._run_behind, proxy, random.Random(self._draw.random()))

            for proxy in proxies:
                self.lost.update(kind_of(request) or "read" for request in proxy.lost)
                await asyncio.to_thread(proxy.heal)

        await self._run_once(None, must_succeed=True, ttl=30.0, timeout=60.0)
        await self._check()

    async def _run_behind(self, proxy: Proxy, draw: random.Random) -> None:
        for _ in range(_RUNS // 2):
            proxy.choose = Weather(draw, self._severity)
            await self._run_once(proxy)
            await asyncio.to_thread(proxy.heal)
            if draw.random() < 0.2:
                await asyncio.to_thread(proxy.refuse)
                await anyio.sleep(draw.random())
                await asyncio.to_thread(proxy.accept)

    async def _run_once(
        self, proxy: Proxy | None, *, must_succeed: bool = False, **lock: float
    ) -> None:
        try:
            with anyio.fail_after(_RUN_WITHIN):
                async with service(
                    self._system,
                    proxy,
                    self._changes,
                    name=self._service,
                    mode=self._mode,
                    **(_LOCK | lock),
                ) as flamingock:
                    await flamingock.run()
        except TimeoutError as exc:
            self.violations.append(f"a run hangs\n{_where(exc)}")
        except FlamingockError as exc:
            if must_succeed:
                self.violations.append(f"the clean run has failed: {type(exc).__name__}: {exc}")
        except BaseException as exc:
            self.violations.append(f"a private exception: {exc!r}\n{_where(exc)}")

    async def _check(self) -> None:
        log = await self._system.log(self._service)
        effects = await self._system.effects(self._service)
        try:
            check_log(log)
        except AssertionError as exc:
            self.violations.append(f"the log is damaged: {exc}")

        last = {entry.change_id: entry for entry in log if entry.change_id}
        for change_id in "abcd":
            entry, count = last.get(change_id), effects[change_id]
            is_applied = entry is not None and entry.state is AuditState.APPLIED
            exact = entry is not None and entry.tx_strategy is not TxStrategy.NON_TX
            if not is_applied or count == 0 or (exact and count > 1):
                words = [f"{e.state} {e.epoch}" for e in log if e.change_id == change_id]
                self.violations.append(
                    f"{change_id} has left {count} lines, and its log is {words}"
                )


def _where(exc: BaseException) -> str:
    """Return where an exception, and those that it came from, passed through this project."""
    lines = "".join(traceback.format_exception(exc)).splitlines()
    return "\n".join(line for line in lines if "aflamingock" in line or not line.startswith(" "))


def _words(entry: AuditEntry) -> str:
    *_, said = (entry.error_trace or "").strip().splitlines() or [""]
    return f"{entry.state} epoch {entry.epoch} {said}".strip()


async def storm(
    system: System, name: str, seeds: Sequence[str], *, at_once: int
) -> tuple[Counter[str], int]:
    """Run schedules, and print what was found; return what was lost, and how many have failed."""
    lost: Counter[str] = Counter()
    failed: list[str] = []
    turn = anyio.Semaphore(at_once)

    async def one(seed: str) -> None:
        async with turn:
            schedule = Schedule(system, f"{name} {seed}")
            await schedule.run()

        lost.update(schedule.lost)
        if schedule.violations:
            failed.append(seed)
            print(f"{name}, --seed {seed} --schedules 1:", *schedule.violations, sep="\n  ")

    await system.prepare()
    async with anyio.create_task_group() as tasks:
        for seed in seeds:
            tasks.start_soon(one, seed)

    return lost, len(failed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the schedules that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=40, help="on each database")
    parser.add_argument("--seed", type=int, default=1, help="of the first one")
    parser.add_argument("--at-once", type=int, default=6, help="how many at the same time")
    parser.add_argument("--only", choices=PLACES, action="append", help="some of the databases")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.CRITICAL)
    seeds = [str(given.seed + number) for number in range(given.schedules)]
    failures = 0
    for name in given.only or PLACES:
        started = time.monotonic()
        with PLACES[name]() as system:
            lost, failed = asyncio.run(storm(system, name, seeds, at_once=given.at_once))

        failures += failed
        told = ", ".join(f"{kind} {count}" for kind, count in sorted(lost.items()))
        print(
            f"{name}: {len(seeds)} schedules, {failed} with violations; applied but reply lost: "
            f"{sum(lost.values()) - lost['read']} ({told}); {time.monotonic() - started:.0f} s",
            flush=True,
        )

    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
