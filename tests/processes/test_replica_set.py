"""A run of many changes goes on, or stops cleanly, while the replica set loses its primary."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import anyio.lowlevel
import anyio.to_thread
import pytest

from aflamingock import ChangeStarted, Flamingock, FlamingockError, LockOptions, RunStatus, change
from aflamingock.stores.mongodb import MongoDBAuditStore
from aflamingock.targets.mongodb import MongoDBTargetSystem
from tests.servers.replica_set import ReplicaSet

from .kit import check_log

pytestmark = pytest.mark.processes

COUNT = 50
AT = 20
"""At which change the primary is lost; even ones are transactional, odd ones are not."""


class Service:
    """
    Changes of which every second is transactional, and what they have done.

    :param mode: the transaction mode
    :ivar done: what changes without a transaction have done, in a system of their own
    :ivar within: awaited by transactional changes, when they have written
    """

    def __init__(self, client: Any, *, mode: Any) -> None:
        self.done: list[int] = []
        self.within: Callable[[int], Awaitable[None]] = self._nothing
        self._client = client
        self._mode = mode
        self._target = MongoDBTargetSystem("data", client, f"test_{uuid4().hex[:16]}")

    def build(self) -> Flamingock:
        return Flamingock(
            changes=[self._outside(n) if n % 2 else self._inside(n) for n in range(COUNT)],
            audit_store=MongoDBAuditStore.from_target_system(self._target),
            target_systems=[self._target],
            transaction_mode=self._mode,
            lock=LockOptions(ttl=12, timeout=30, retry_interval=0.1),
        )

    async def _nothing(self, number: int) -> None:
        await anyio.lowlevel.checkpoint()

    def _inside(self, number: int) -> type:
        service = self

        class Inside:
            async def execute(self, db: Any, session: Any) -> None:
                once_more = {"$inc": {"times": 1}}
                await db.effects.update_one(
                    {"_id": number}, once_more, upsert=True, session=session
                )
                await service.within(number)

        return _declared(Inside, number, target_system="data")

    def _outside(self, number: int) -> type:
        service = self

        class Outside:
            async def execute(self) -> None:
                await anyio.lowlevel.checkpoint()
                service.done.append(number)

        return _declared(Outside, number)

    async def check(self) -> None:
        """Make sure that each change was carried out once, and that the log says so."""
        effects = self._client[self._target.database_name].effects
        found = await effects.find().sort("_id").to_list(None)
        assert [(one["_id"], one["times"]) for one in found] == [(n, 1) for n in range(0, COUNT, 2)]
        assert self.done == list(range(1, COUNT, 2))
        async with self.build() as flamingock:
            entries = [entry async for entry in flamingock.audit.entries()]

        check_log(entries)
        applied = [one.change_id for one in entries if one.change_id and one.state == "APPLIED"]
        assert applied == [_id(number) for number in range(COUNT)]

    async def drop(self) -> None:
        await self._client.drop_database(self._target.database_name)


def _declared(body: type, number: int, **options: Any) -> type:
    return change(id=_id(number), author="tests", order=_id(number), **options)(body)


def _id(number: int) -> str:
    return f"{number:02}"


class Loss:
    """
    Lets the primary be lost once.

    :param moment: before a change is executed, within its transaction, or meanwhile: beside the
        run, which does not wait
    """

    def __init__(self, fault: Callable[[], None], moment: str) -> None:
        self._fault = fault
        self._moment = moment
        self._is_near = anyio.Event()
        self._is_over = anyio.Event()

    async def before(self, event: ChangeStarted) -> None:
        if event.change_id == _id(AT) and self._moment != "within":
            await self._come()

    async def within(self, number: int) -> None:
        if number == AT and self._moment == "within":
            await self._come()

    async def _come(self) -> None:
        self._is_near.set()
        if self._moment != "meanwhile":
            await self._is_over.wait()

    async def watch(self) -> None:
        """Wait for the moment, and lose the primary."""
        await self._is_near.wait()
        await anyio.to_thread.run_sync(self._fault)
        self._is_over.set()


async def run_twice(loss: Loss, service: Service) -> tuple[RunStatus | None, RunStatus]:
    """Run while the primary is lost, and once more; say how both runs ended."""
    service.within = loss.within
    flamingock = service.build()
    flamingock.on(ChangeStarted, loss.before)
    async with anyio.create_task_group() as group:
        group.start_soon(loss.watch)
        try:
            first: RunStatus | None = (await flamingock.run()).status
        except FlamingockError as exc:
            first = exc.report.status if exc.report else None

    return first, (await flamingock.run()).status


@pytest.mark.parametrize(
    ("connect", "fault", "moment", "mode"),
    [
        ("pymongo", ReplicaSet.step_down, "meanwhile", "shared"),
        ("motor", ReplicaSet.step_down, "within", "separate"),
        ("pymongo", ReplicaSet.kill_primary, "within", "shared"),
        ("pymongo", ReplicaSet.kill_primary, "before", "separate"),
        ("motor", ReplicaSet.kill_primary, "meanwhile", "shared"),
    ],
    indirect=["connect"],
)
async def test_each_change_is_carried_out_once_when_the_primary_is_lost(
    connect: Callable[..., Any],
    replica_set: ReplicaSet,
    fault: Callable[[ReplicaSet], None],
    moment: str,
    mode: str,
) -> None:
    service = Service(connect(replica_set.url), mode=mode)
    loss = Loss(lambda: fault(replica_set), moment)

    first, second = await run_twice(loss, service)

    if first is RunStatus.SUCCESS:
        assert second is RunStatus.NOTHING_TO_DO
        assert moment != "within"
    else:
        assert first in (RunStatus.FAILED, RunStatus.LOCK_LOST)
        assert second is RunStatus.SUCCESS

    await service.check()
    await service.drop()
