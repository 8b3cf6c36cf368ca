"""Appending at the same time: together, in order, and not cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio
import pytest
from anyio.lowlevel import checkpoint

from aflamingock._audit.log import AuditLog
from aflamingock._options import AuditOptions
from aflamingock._records import AuditEntry
from aflamingock._states import AuditState
from aflamingock._task import supervised
from aflamingock.exceptions import AuditStoreConnectionError, LockLostError, SequenceConflictError
from aflamingock.stores.memory import MemoryAuditStore
from tests.audit.kit import Clock, Counting, entry, ids, lease, make_log


class Overtaken(Counting):
    """A store without atomic batches, in which somebody else appends after the entry of ``a``."""

    async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
        for given in entries:
            await super().append([given], session=session)
            if given.change_id == "a":
                await self.overtake()

    async def overtake(self) -> None:
        [last] = await self.last("shop", 1)
        theirs = entry("theirs").sealed(sequence=last.sequence + 1, previous=last.digest, epoch=1)
        await super().append([theirs])


class TestPrefix:
    async def test_entries_before_the_refused_one_stand(self):
        store = Overtaken()
        log = make_log(store)
        with pytest.raises(SequenceConflictError) as refused:
            await log.append(entry("a", "APPLIED"), entry("b", "STARTED"))

        assert (refused.value.sequence, refused.value.state) == (2, AuditState.STARTED)
        assert await ids(store) == ["a", "theirs"]
        assert log.history.sequence == 2

    async def test_only_those_whose_entries_were_refused_are_told(self):
        store = Overtaken()
        log = make_log(store)
        outcomes = await _append_together(log, "a", "b")

        assert outcomes["a"] is None
        assert isinstance(outcomes["b"], SequenceConflictError)


async def _append_together(log: AuditLog, *names: str) -> dict[str, Exception | None]:
    """Append an entry for each name from a coroutine of its own, in one group."""
    outcomes: dict[str, Exception | None] = {}

    async def append(name: str) -> None:
        try:
            await log.append(entry(name))
            outcomes[name] = None
        except Exception as exc:
            outcomes[name] = exc

    async with anyio.create_task_group() as tasks, log.turn():
        for name in names:
            tasks.start_soon(append, name)

        await anyio.wait_all_tasks_blocked()

    return outcomes


class TestGroupCommit:
    async def test_what_waits_is_written_together(self):
        store = Counting()
        log = make_log(store)
        names = [str(number) for number in range(20)]
        outcomes = await _append_together(log, *names)

        assert outcomes == dict.fromkeys(names)
        assert len(store.calls) == 1
        assert sorted(await ids(store), key=lambda id: int(id or 0)) == names

    async def test_a_batch_is_no_larger_than_wanted(self):
        store = Counting()
        log = make_log(store, options=AuditOptions(batch_size=8))
        names = [str(number) for number in range(20)]
        outcomes = await _append_together(log, *names)

        assert outcomes == dict.fromkeys(names)
        assert [len(call) for call in store.calls] == [8, 8, 4]

    async def test_entries_of_one_call_stay_together_whatever_the_size(self):
        store = Counting()
        log = make_log(store, options=AuditOptions(batch_size=1))
        await log.append(entry("a", "APPLIED"), entry("b"))
        assert store.calls == [["a", "b"]]

    async def test_each_is_written_alone_if_so_wanted(self):
        store = Counting()
        log = make_log(store, options=AuditOptions(async_writes=False))
        await _append_together(log, "a", "b", "c")
        assert sorted(store.calls) == [["a"], ["b"], ["c"]]

    async def test_each_gets_its_own_entries(self, memory):
        log = make_log(memory)
        written: dict[str, tuple[AuditEntry, ...]] = {}

        async def append(name: str) -> None:
            written[name] = await log.append(entry(name, "APPLIED"), entry(name, "STARTED"))

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(append, str(number))

        for name, (applied, started) in written.items():
            assert (applied.change_id, started.change_id) == (name, name)
            assert started.sequence == applied.sequence + 1

        assert sorted(e.sequence for pair in written.values() for e in pair) == [*range(1, 41)]

    async def test_a_failure_is_told_to_everybody_in_the_group(self):
        class Failing(MemoryAuditStore):
            async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
                await checkpoint()
                raise AuditStoreConnectionError("out of reach")

        outcomes = await _append_together(make_log(Failing()), "a", "b", "c")

        assert {type(error) for error in outcomes.values()} == {AuditStoreConnectionError}
        assert len(outcomes) == 3

    async def test_under_a_lease_a_store_out_of_reach_is_asked_until_the_lease_ends(self):
        clock = Clock()

        class Away(Counting):
            async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
                clock.now += 5
                if clock.now < back:
                    raise AuditStoreConnectionError("out of reach")

                await super().append(entries, session=session)

        for back in (30, 1000):
            clock.now = 0
            log = make_log(store := Away())
            log.work_under(lease(clock=clock))
            outcomes = await _append_together(log, "a")
            if back == 30:
                assert (outcomes, store.calls) == ({"a": None}, [["a"]])

        assert isinstance(outcomes["a"], LockLostError)
        assert isinstance(outcomes["a"].__cause__, AuditStoreConnectionError)
        assert store.calls == []

    async def test_after_a_failure_the_same_numbers_are_used(self):
        class Failing(Counting):
            async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
                if not self.calls:
                    self.calls.append([])
                    raise AuditStoreConnectionError("out of reach")

                await super().append(entries, session=session)

        log = make_log(Failing())
        with pytest.raises(AuditStoreConnectionError):
            await log.append(entry("a"))

        [written] = await log.append(entry("b"))
        assert written.sequence == 1

    async def test_who_was_written_for_by_one_that_was_cut_off_is_not_told_that_all_is_well(self):
        cut = anyio.Event()

        class Hanging(Counting):
            async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
                if not cut.is_set():
                    cut.set()
                    await anyio.sleep_forever()

                await super().append(entries, session=session)

        store = Hanging()
        log = make_log(store)
        outcomes: dict[str, object] = {}

        async def append(name: str) -> None:
            try:
                outcomes[name] = await log.append(entry(name))
            except Exception as exc:
                outcomes[name] = exc

        async with log.turn():
            one = asyncio.create_task(append("one"))
            other = asyncio.create_task(append("other"))
            await anyio.wait_all_tasks_blocked()

        await cut.wait()
        one.cancel()  # as a plain task, which no scope shields
        await asyncio.wait([one, other])

        stands = "other" in await ids(store)
        assert isinstance(outcomes["other"], Exception) is not stands


class TestCancellation:
    async def test_an_append_is_not_cut_off(self):
        store = Counting()
        log = make_log(store)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await log.append(entry("a"))

        assert await ids(store) == ["a"]

    async def test_an_append_that_waits_for_its_turn_is_not_cut_off(self, memory):
        log = make_log(memory)
        async with anyio.create_task_group() as tasks, log.turn():
            tasks.start_soon(log.append, entry("a"))
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

        assert await ids(memory) == ["a"]

    async def test_supervised_it_stands_however_often_the_task_is_cancelled(self):
        at_work, may_end = anyio.Event(), anyio.Event()

        class Slow(MemoryAuditStore):
            async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
                at_work.set()
                await may_end.wait()
                await super().append(entries, session=session)

        store = Slow()
        log = make_log(store)
        task = asyncio.create_task(supervised(lambda: log.append(entry("a"))))
        await at_work.wait()
        for _ in range(5):
            task.cancel()
            await asyncio.sleep(0)

        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert await ids(store) == ["a"]
        assert log.history.sequence == 1
