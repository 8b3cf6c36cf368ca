"""
Random faults of the network under runs of a service, and what must be true after them.

``python -m tests.network.chaos`` goes on, on every database, until a hundred writes were done
whose reply was lost; ``--schedules N --seed S`` runs so many, from this seed on.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import anyio

from aflamingock import AuditEntry, AuditState, FlamingockError, Recovery, TxStrategy
from tests.chaos.recorder import Recorder, ended, read_events
from tests.history.checker import violations
from tests.history.events import Commit, History
from tests.network.apart import ABORTING, rage_apart
from tests.network.kit import Mode, service
from tests.network.places import PLACES
from tests.network.system import System
from tests.network.weather import Weather, kind_of
from tests.servers.proxy import Proxy

IDS = ("a", "b", "c", "d")
_FEWEST, _MOST = 40, 400
_LOST = 100
_RUNS = 4
_LOCK = {"ttl": 3.0, "timeout": 20.0, "retry_interval": 0.2}
_RUN_WITHIN = 150.0
"""More than this is a hang: the limits of the drivers add up to less."""


class Schedule:
    """
    Some runs of one service, of which two at a time, and a clean one at their end.

    :param seed: decides on everything but the time that servers take
    :param events: the file that they are written to
    """

    def __init__(self, system: System, seed: str, events: Path) -> None:
        self._system = system
        self._events = events
        self._draw = random.Random(seed)
        self._service = f"s{uuid4().hex}"
        self._mode: Mode = self._draw.choice(["shared", "separate"])
        self._severity = self._draw.choice([0.2, 0.35, 0.5])
        self._kinds = {id: self._draw.choice(["tx", "tx", "verify", "retry"]) for id in IDS}
        self.violations: list[str] = []
        self.lost: Counter[str] = Counter()

    def _changes(self, recorder: Recorder) -> Sequence[type]:
        return [
            self._system.change(
                id,
                transactional=kind == "tx",
                has_verify=kind == "verify",
                recovery=Recovery.MANUAL_INTERVENTION if kind == "tx" else Recovery.ALWAYS_RETRY,
                recorder=recorder,
            )
            for id, kind in self._kinds.items()
        ]

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

        for _ in range(self._system.last_runs):
            if await self._run_once(None, ttl=30.0, timeout=60.0):
                break

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

    async def _run_once(self, proxy: Proxy | None, **lock: float) -> bool:
        recorder = Recorder(self._events, uuid4().hex[:8])
        error: BaseException | None = None
        try:
            with anyio.fail_after(_RUN_WITHIN):
                async with service(
                    self._system,
                    proxy,
                    self._changes(recorder),
                    name=self._service,
                    mode=self._mode,
                    recorder=recorder,
                    **(_LOCK | lock),
                ) as flamingock:
                    await flamingock.run()
        except BaseException as exc:
            error = exc

        recorder.write(ended(recorder, error))
        if error is not None and not isinstance(error, FlamingockError):
            told = "a run hangs" if isinstance(error, TimeoutError) else "a private exception"
            self.violations.append(f"{told}: {error!r}\n{_where(error)}")

        return error is None

    async def _check(self) -> None:
        entries = await self._system.log(self._service)
        effects = await self._system.effects(self._service)
        last = {entry.change_id: entry for entry in entries if entry.change_id}
        self.violations += violations(
            History(
                stages=[IDS],
                entries=entries,
                events=read_events(self._events),
                commits=_commits(last, effects),
                verified=frozenset(id for id, kind in self._kinds.items() if kind == "verify"),
            )
        )
        for id in IDS:
            own = [entry for entry in entries if entry.change_id == id]
            is_applied = bool(own) and own[-1].state is AuditState.APPLIED
            if not is_applied or not (effects[id] or _may_be_undone(own)):
                said = [f"{entry.state} {entry.epoch}" for entry in own]
                self.violations.append(f"{id} has left {effects[id]} lines, and its log is {said}")


def _may_be_undone(entries: Sequence[AuditEntry]) -> bool:
    """
    Say whether the request of a rollback that was not answered may have arrived afterwards.

    No lock protects a system without transactions from that (see docs/guarantees.md).
    """
    states = Counter(entry.state for entry in entries)
    is_open = states[AuditState.ROLLBACK_STARTED] > states[AuditState.ROLLED_BACK]
    return is_open and entries[-1].tx_strategy is TxStrategy.NON_TX


def _commits(last: Mapping[str, AuditEntry], effects: Counter[str]) -> list[Commit]:
    """Return what transactions have left: of their lines nobody knows from which attempt."""
    return [
        Commit(change_id=id, method="execute", attempt=entry.attempt)
        for id, entry in last.items()
        if entry.tx_strategy is not TxStrategy.NON_TX
        for _ in range(effects[id])
    ]


def _where(exc: BaseException) -> str:
    """Return where an exception, and those that it came from, passed through this project."""
    lines = "".join(traceback.format_exception(exc)).splitlines()
    ours = ("aflamingock", "tests/network")
    return "\n".join(
        line for line in lines if not line.startswith(" ") or any(place in line for place in ours)
    )


class Storm:
    """
    Schedules of one database, some at a time.

    :param first: the seed of the first one
    :param schedules: how many; by default as many as it takes until enough replies are lost
    :ivar lost: which writes were done without their reply coming through
    :ivar failed: the seeds of the schedules that have violated something
    """

    def __init__(
        self, system: System, name: str, *, first: int = 1, schedules: int | None = None
    ) -> None:
        self._system = system
        self._name = name
        self._seeds = count(first)
        self._wanted = schedules
        self.schedules = 0
        self.lost: Counter[str] = Counter()
        self.failed: list[int] = []

    @property
    def writes_lost(self) -> int:
        """How many writes were done without their reply coming through."""
        return self.lost.total() - self.lost["read"]

    @property
    def is_short(self) -> bool:
        """Whether fewer replies were lost than must be, to have shown something."""
        return self._wanted is None and self.writes_lost < _LOST

    @property
    def _goes_on(self) -> bool:
        if self._wanted is not None:
            return self.schedules < self._wanted

        return self.schedules < (_MOST if self.is_short else _FEWEST)

    async def rage(self, *, at_once: int) -> None:
        """Run the schedules, and print what was found."""
        await self._system.prepare()
        with self._system.unrest():
            async with anyio.create_task_group() as tasks:
                for _ in range(at_once):
                    tasks.start_soon(self._run)

    async def _run(self) -> None:
        while self._goes_on:
            self.schedules += 1
            seed = next(self._seeds)
            with TemporaryDirectory() as folder:
                schedule = Schedule(self._system, f"{self._name} {seed}", Path(folder, "events"))
                await schedule.run()

            self.lost.update(schedule.lost)
            if schedule.violations:
                self.failed.append(seed)
                again = f"{self._name}, --only {self._name} --seed {seed} --schedules 1:"
                print(again, *schedule.violations, sep="\n  ", flush=True)

    def __str__(self) -> str:
        told = ", ".join(f"{kind} {count}" for kind, count in sorted(self.lost.items()))
        return (
            f"{self._name}: {self.schedules} schedules, {len(self.failed)} with violations; "
            f"applied but reply lost: {self.writes_lost} ({told})"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the schedules that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--schedules",
        type=int,
        help=f"so many on each database; else at least {_FEWEST}, and as many as it takes until "
        f"the replies of {_LOST} writes were lost, {_MOST} at the most",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the first one")
    parser.add_argument("--at-once", type=int, default=6, help="how many at the same time")
    parser.add_argument("--only", choices=PLACES, action="append", help="some of the databases")
    given = parser.parse_args(arguments)
    logging.disable()

    failures = 0
    for name in given.only or PLACES:
        if name in ABORTING and given.schedules is None:
            failures += rage_apart(
                name, first=given.seed, at_once=given.at_once, enough=_LOST, most=_MOST
            )
            continue

        started = time.monotonic()
        with PLACES[name]() as system:
            storm = Storm(system, name, first=given.seed, schedules=given.schedules)
            asyncio.run(storm.rage(at_once=given.at_once))

        failures += len(storm.failed) + storm.is_short
        print(f"{storm}; {time.monotonic() - started:.0f} s", flush=True)
        if storm.is_short:
            print(f"{name}: these are fewer than {_LOST} lost replies", flush=True)

    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
