"""Target systems on simulated servers, with transactions and without, and what changes do there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from aflamingock import Verification
from aflamingock._states import MarkerOutcome
from aflamingock.abc import ChangeContext, Offer, TargetSystem, TransactionalTargetSystem
from aflamingock.exceptions import SystemBusyError, UnknownOutcomeError

from ..history.events import Commit
from .database import Database, Transaction
from .network import Told
from .process import Process

if TYPE_CHECKING:
    from .scenario import Scenario

T = TypeVar("T")

_CLOSING_TIME = 10.0
_STATEMENT = Told(
    refused=ConnectionError, lost=ConnectionError, busy=ConnectionError, may_double=False
)
_BEGIN = Told(refused=SystemBusyError, lost=ConnectionError, busy=SystemBusyError, may_double=False)
_COMMIT = Told(refused=ConnectionError, lost=UnknownOutcomeError, busy=ConnectionError)
_MARKER = Told(refused=SystemBusyError, lost=UnknownOutcomeError, busy=SystemBusyError)


class Effects:
    """
    What changes do: each call is made of steps, and each step leaves an effect.

    :param within: the transaction; ``None`` outside of any
    """

    def __init__(
        self,
        scenario: Scenario,
        process: Process,
        database: Database,
        within: Transaction | None = None,
    ) -> None:
        self._scenario = scenario
        self._process = process
        self._database = database
        self._within = within

    async def perform(self, method: str, context: ChangeContext) -> None:
        """Do what ``execute`` or ``rollback`` of a change does."""
        scenario, process = self._scenario, self._process
        scenario.called(process, method, "began", context)
        try:
            await self._perform(method, context)
        except BaseException:
            scenario.called(process, method, "raised", context)
            raise

        scenario.called(process, method, "ended", context)

    async def verify(self, context: ChangeContext) -> Verification:
        """Say which of the effects of a change stand."""
        plan = self._scenario.plans[context.change_id]
        stands = [self._database.effects[plan.id, step] for step in range(plan.steps)]
        await self._call("verify", lambda: None)
        if all(stands):
            return Verification.APPLIED

        return Verification.PARTIAL if any(stands) else Verification.NOT_APPLIED

    async def _perform(self, method: str, context: ChangeContext) -> None:
        plan = self._scenario.plans[context.change_id]
        fails_at = self._scenario.fails_at(plan, method)
        for step in range(plan.steps):
            if step == fails_at:
                raise ValueError("This change does not work.")

            self._scenario.check_step(self._process, context)
            if self._within is not None:
                await self._write(self._within, method, context, step)
            else:
                await self._act(method, plan.id, step, repeatable=plan.is_repeatable)

            await anyio.sleep(0.01 if self._scenario.world.is_calm else plan.pause)

    async def _write(
        self, within: Transaction, method: str, context: ChangeContext, step: int
    ) -> None:
        def serve() -> None:
            count = 1 if method == "execute" else -1
            self._database.write(within, context.change_id, step, count)
            if step == 0:
                within.commits.append(
                    Commit(
                        change_id=context.change_id,
                        method="execute" if method == "execute" else "rollback",
                        attempt=context.attempt,
                    )
                )

        await self._call("statement", serve)

    async def _act(self, method: str, id: str, step: int, *, repeatable: bool) -> None:
        # What is done outside of transactions is done at once: nothing could be said of what
        # hangs in the air when its sender dies.
        effects = self._database.effects
        if self._scenario.is_lost():
            raise ConnectionError("The request was lost.")

        if method == "rollback":
            effects[id, step] = 0
        else:
            effects[id, step] = 1 if repeatable else effects[id, step] + 1

        self._scenario.world.note(self._process, "effect", method, id, step)
        await self._call("effect", lambda: None)

    async def _call(self, what: str, serve: Callable[[], None]) -> None:
        await self._scenario.network.call(self._process, what, serve, _STATEMENT)


class Session:
    """The client's end of a transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction


class PlainTarget(TargetSystem):
    """A target system without transactions."""

    def __init__(self, scenario: Scenario, process: Process) -> None:
        super().__init__("plain")
        self._effects = Effects(scenario, process, scenario.other)

    async def _connect(self, stack: AsyncExitStack) -> None:
        """Do nothing."""

    def offers(self) -> Sequence[Offer]:
        """Return what changes may ask for."""
        return (Offer(names=("effects",), type=Effects),)

    @asynccontextmanager
    async def handles(self) -> AsyncIterator[Mapping[str, object]]:
        """Lend it."""
        yield {"effects": self._effects}


class SimulatedTarget(TransactionalTargetSystem[Session]):
    """What one process has of a target system with transactions."""

    def __init__(self, id: str, scenario: Scenario, process: Process, database: Database) -> None:
        super().__init__(id)
        self.database = database
        self._scenario = scenario
        self._process = process

    async def _connect(self, stack: AsyncExitStack) -> None:
        """Do nothing."""

    def offers(self) -> Sequence[Offer]:
        """Return what changes may ask for."""
        return (Offer(names=("effects",), type=Effects),)

    @asynccontextmanager
    async def handles(self) -> AsyncIterator[Mapping[str, object]]:
        """Lend what acts outside of transactions."""
        yield {"effects": Effects(self._scenario, self._process, self.database)}

    def objects(self, session: Session) -> Mapping[str, object]:
        """Return what acts within a transaction."""
        return {
            "effects": Effects(self._scenario, self._process, self.database, session.transaction)
        }

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """Run a transaction."""
        begun: list[Transaction] = []

        def begin() -> Transaction:
            begun.append(self.database.begin(self._process))
            self._scenario.watch(begun[0])
            return begun[0]

        try:
            transaction = await self._call("begin", begin, _BEGIN)
            yield Session(transaction)
        except BaseException:
            await self._roll_back(begun)
            raise

        try:
            await self._commit(transaction)
        finally:
            self._scenario.orphan(transaction, at_most=5.0)

    async def insert_marker(self, session: Session, key: str, change_id: str) -> None:
        """Insert the marker within a transaction."""
        await self._call(
            "marker", lambda: self.database.mark(session.transaction, key, change_id), _STATEMENT
        )

    async def claim_marker(self, key: str, change_id: str) -> MarkerOutcome:
        """Insert the marker as ABORTED, if there is none."""
        return await self._call("claim", lambda: self.database.claim(key), _MARKER)

    async def remove_marker(self, key: str) -> None:
        """Remove the marker."""
        await self._call("unmark", lambda: self.database.remove_marker(key), _MARKER)

    async def _commit(self, transaction: Transaction) -> None:
        with anyio.move_on_after(_CLOSING_TIME, shield=True):
            await self._call("commit", lambda: self.database.commit(transaction), _COMMIT)
            self._scenario.acknowledged(self._process, transaction.entries)
            return

        raise UnknownOutcomeError("The commit was not answered.")

    async def _roll_back(self, begun: Sequence[Transaction]) -> None:
        def end() -> None:
            for transaction in begun:
                self.database.abort(transaction)

        for transaction in begun:
            self._scenario.orphan(transaction)

        with anyio.move_on_after(_CLOSING_TIME, shield=True):
            try:
                await self._call("rollback", end, _STATEMENT)
            except ConnectionError:  # the server finds out by itself
                return

    async def _call(self, what: str, serve: Callable[[], T], told: Told) -> T:
        return await self._scenario.network.call(self._process, what, serve, told)

    def __repr__(self) -> str:
        """Return the class and the id."""
        return f"SimulatedTarget({self.id!r})"


def targets_of(scenario: Scenario, process: Process) -> list[Any]:
    """Return the target systems of a process."""
    return [
        SimulatedTarget("shared", scenario, process, scenario.main),
        SimulatedTarget("separate", scenario, process, scenario.other),
        PlainTarget(scenario, process),
    ]
