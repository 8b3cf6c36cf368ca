"""A scenario: who runs what in which world, drawn from a seed, and what is seen of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Literal

import anyio

from aflamingock import (
    AuditEntry,
    AuditOptions,
    Flamingock,
    FlamingockError,
    LockOptions,
    Stage,
)
from aflamingock._lease import HeldLease
from aflamingock._records import Lease
from aflamingock.abc import ChangeContext

from ..history.events import Called, Died, Ended, Event, Granted, History, Renewed
from . import drawing, store
from .changes import ChangePlan
from .database import Database, Transaction
from .network import Network
from .process import Process
from .report import false_words
from .target import targets_of
from .world import World

_LONGEST_LIFE = 4 * 3600.0


class Scenario:
    """
    Everything about one seed.

    :param focus: the moment around which things go wrong, and clocks with them; else it is drawn
    :ivar is_tame: whether all clocks run within what the lease allows for, so that two runners
        are never at work at the same time
    :ivar main: the server of the audit store, and of the target system that shares it
    :ivar other: the server of the other target systems
    """

    def __init__(self, seed: int, focus: str | None = None) -> None:
        self.world = world = World(seed)
        draw = world.random
        self.is_tame = draw.random() < 0.7 and focus is None
        self.ttl = draw.choice((2.0, 6.0, 20.0))
        self.network = Network(world)
        self.main, self.other = Database(world, "main"), Database(world, "other")
        self.main.clock_rate = self.rate()
        self.focus = self.network.focus = focus or drawing.focus(draw)
        self.single_host = self.is_tame and draw.random() < 0.15
        self.has_side_channel = draw.random() < 0.7
        self.batch = draw.choice((2, 5, 200))
        self.idle_limit = draw.choice((5.0, 20.0, 60.0))
        self.transaction_mode: Literal["shared", "separate"] = (
            "separate" if draw.random() < 0.3 else "shared"
        )
        self.async_writes = draw.random() < 0.7
        self.stages = drawing.stages(draw)
        self.plans = {plan.id: plan for stage in self.stages for plan in stage}
        self.failures = {
            (plan.id, method): count
            for plan in self.plans.values()
            for method, count in (
                ("execute", plan.failures),
                ("rollback", plan.rollback_failures),
            )
        }
        self.events: list[Event] = []
        self.has_long_stops = False
        self.waiting, self.restarts = 0, 3
        world.when_ended.append(self._process_ended)

    def rate(self) -> float:
        """Draw how fast a clock runs."""
        draw = self.world.random
        return draw.uniform(0.985, 1.015) if self.is_tame else draw.choice((0.5, 0.5, 1.0, 1.5))

    def build(self, process: Process) -> Flamingock:
        """Return what a process of the application builds."""
        names = ("one", "two")
        independent = {"after": ()} if len(self.stages) > 1 and self.is_parallel else {}
        return Flamingock(
            stages=[
                Stage(name, location=[plan.declared() for plan in plans], **independent)
                for name, plans in zip(names, self.stages, strict=False)
            ],
            audit_store=store.SimulatedStore(self, process),
            target_systems=targets_of(self, process),
            lock=LockOptions(
                ttl=self.ttl, timeout=10 * self.ttl + 90, retry_interval=self.ttl / 12
            ),
            audit=AuditOptions(async_writes=self.async_writes),
            transaction_mode=self.transaction_mode,
            listeners=drawing.listeners(self.world),
        )

    @property
    def is_parallel(self) -> bool:
        """Whether the stages do not depend on each other."""
        return self.world.seed % 2 == 0

    def start(self, name: str) -> None:
        """Start a process of the application, and plan what happens to it."""
        process = Process(self.world, name, rate=self.rate())
        process.wall_offset = self.world.random.choice((0.0, 0.0, -3600.0, 86400.0))
        drawing.misfortunes(self, process)
        actions = drawing.actions(self)
        process.start(self._script(process, actions))

    def chaos(self) -> None:
        """Let two to four processes run, and everything that can go wrong go wrong."""
        draw = self.world.random
        drawing.steps_of_clock(self)
        for name in "ABCD"[: draw.randint(2, 4)]:
            self.waiting += 1
            self.world.after(
                draw.choice((0.0, 0.01, self.ttl / 2, self.ttl)) * draw.random(),
                partial(self._begin, name),
            )

        if not self.world.run(until=self._is_over, within=_LONGEST_LIFE):
            self.world.violated("I9", "a process has come to no end")

    def record(self, event: Event) -> None:
        """Keep an event for the checker."""
        self.events.append(event)

    def granted(self, process: Process, held: HeldLease) -> None:
        """Take note of a lease that a process holds."""
        self.record(
            Granted(
                time=self.world.now,
                runner=process.name,
                epoch=held.epoch,
                sent_at=process.moment_of(held._sent_at),
                until=process.moment_of(held.stops_at),
            )
        )
        self.world.note(process, "granted", held.epoch)
        process.reaches("granted")

    def renewed(self, held: HeldLease) -> None:
        """Take note of a lease that was renewed."""
        process = self.world.current
        if process is not None and process.is_alive:
            until = process.moment_of(held.stops_at)
            self.record(
                Renewed(time=self.world.now, runner=process.name, epoch=held.epoch, until=until)
            )

    def acknowledged(self, process: Process, entries: Iterable[AuditEntry]) -> None:
        """Take note of entries whose writing was answered."""
        if process.is_alive:
            self.events += [store.acknowledged(self.world.now, process, each) for each in entries]

    def called(self, process: Process, method: Any, step: Any, context: ChangeContext) -> None:
        """Take note of a call of a change."""
        if not process.is_alive:
            return

        self.world.note(process, step, method, context.change_id, context.attempt)
        self.record(
            Called(
                time=self.world.now,
                runner=process.name,
                method=method,
                step=step,
                epoch=context.epoch,
                change_id=context.change_id,
                attempt=context.attempt,
            )
        )

    def check_step(self, process: Process, context: ChangeContext) -> None:
        """Let no change go on when somebody else may have begun: where clocks are in order."""
        record, _ = self.main.records.get(Lease.key(context.service), (None, 0.0))
        if record is None or not process.is_alive or not self.is_tame:
            return

        if record.value["epoch"] != context.epoch:
            self.world.violated(
                "I3",
                f"{process.name} goes on with {context.change_id} under epoch {context.epoch}, "
                f"and epoch {record.value['epoch']} was granted",
            )

    def fails_at(self, plan: ChangePlan, method: str) -> int | None:
        """Return the step at which a call raises, if it does."""
        if self.world.is_calm or not self.failures.get((plan.id, method)):
            return None

        self.failures[plan.id, method] -= 1
        return self.world.random.randrange(plan.steps)

    def is_lost(self) -> bool:
        """Draw whether a request to a system without transactions gets lost."""
        return not self.world.is_calm and self.world.chance(self.network.fault_rate / 3)

    def orphan(self, transaction: Transaction, *, at_most: float = 20.0) -> None:
        """Let the server end a transaction that nobody ends, after a while."""
        seconds = at_most * self.world.random.random()
        self.world.after(seconds, lambda: self.main.abort(transaction))

    def watch(self, transaction: Transaction) -> None:
        """Let the server end a transaction in which nothing has happened for too long."""
        left = transaction.used_at + self.idle_limit - self.world.now
        if left <= 0:
            self.main.abort(transaction)
        elif transaction.is_open:
            self.world.after(left, lambda: self.watch(transaction))

    async def attempt(
        self, process: Process, action: Callable[[], Awaitable[object]], *, undoes: bool = False
    ) -> str:
        """
        Do something as a user of the library, and take note of how it ended.

        :return: the name of the error's class, or nothing
        """
        error: BaseException | None = None
        is_public = True
        answer: object = None
        try:
            answer = await action()
        except (FlamingockError, asyncio.CancelledError) as exc:
            error = exc
        except Exception as exc:
            error, is_public = exc, False

        name = type(error).__name__ if error else ""
        if process.is_alive:
            self.world.note(process, "run ended", name, str(error)[:160] if error else "")
            report, entries = getattr(error, "report", answer), self.main.log.values()
            for told in false_words(report, entries, undoes=undoes):
                self.world.violated("I11", f"{process.name} {told}")

            self.record(
                Ended(
                    time=self.world.now,
                    runner=process.name,
                    error=name or None,
                    text=repr(error),
                    is_public=is_public,
                )
            )

        if isinstance(error, asyncio.CancelledError):
            raise error

        return name

    def history(self) -> History:
        """Return everything for the checker."""
        return History(
            stages=[[plan.id for plan in stage] for stage in self.stages],
            entries=[self.main.log[number] for number in sorted(self.main.log)],
            events=self.events,
            commits=[*self.main.commits, *self.other.commits],
            verified=frozenset(plan.id for plan in self.plans.values() if plan.has_verify),
            pauses_are_bounded=self.is_tame and not self.has_long_stops,
            clocks_agree=self.is_tame,
        )

    async def _script(self, process: Process, actions: list[str]) -> None:
        flamingock = self.build(process)
        for action in actions:
            call = drawing.call_of(flamingock, action, self)
            await self.attempt(process, call, undoes=action.startswith("undo"))
            await anyio.sleep(self.ttl * self.world.random.random())

    def _begin(self, name: str) -> None:
        self.waiting -= 1
        self.start(name)

    def _process_ended(self, process: Process) -> None:
        for transaction in (*self.main.transactions, *self.other.transactions):
            if transaction.owner is process and transaction.is_open:
                self.orphan(transaction, at_most=self.world.random.choice((0.1, self.idle_limit)))

        if process.held is None and self.world.is_calm:
            return

        self.record(Died(time=self.world.now, runner=process.name))
        if self.restarts and not self.world.is_calm and self.world.chance(0.6):
            self.restarts -= 1
            self.waiting += 1
            self.world.after(
                self.ttl * 2 * self.world.random.random(),
                lambda: self._begin(f"{process.name.split('.')[0]}.{len(self.world.processes)}"),
            )

    def _is_over(self) -> bool:
        return not self.waiting and not any(each.is_alive for each in self.world.processes)
