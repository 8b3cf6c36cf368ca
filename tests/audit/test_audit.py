"""The audit log: numbers, digests, and what happens when somebody else has written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from aflamingock._audit import log as _audit
from aflamingock._audit.history import is_up_to_date
from aflamingock._audit.log import AuditLog
from aflamingock._events import AuditWriteEvent, Listeners
from aflamingock._lease import HeldLease
from aflamingock._options import AuditOptions
from aflamingock._records import AuditEntry, Lease
from aflamingock._retry import Patience
from aflamingock._states import AuditState, AuditType
from aflamingock._task import supervised
from aflamingock.abc import AuditStore
from aflamingock.exceptions import (
    AuditStoreConnectionError,
    AuditStoreError,
    LockLostError,
    LockTimeoutError,
    SequenceConflictError,
    SystemBusyError,
    UnknownOutcomeError,
)
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore


def entry(id: str = "c", state: str = "STARTED", **values) -> AuditEntry:
    given: dict[str, Any] = {"service": "shop", "execution_id": "run", "change_id": id}
    return AuditEntry(state=AuditState(state), **given | values)


def make_log(store: AuditStore[Any], *, limit: float = 0.0, **values) -> AuditLog:
    return AuditLog(
        store, service="shop", execution_id="run", patience=Patience(limit=limit), **values
    )


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def lease(epoch: int = 3, clock: Clock | None = None) -> HeldLease:
    given = Lease(service="shop", owner="run", epoch=epoch, ttl=60.0)
    return HeldLease(given, sent_at=0.0, clock=clock or Clock())


async def stored(store: AuditStore[Any]) -> list[AuditEntry]:
    return [found async for found in store.entries("shop")]


async def ids(store: AuditStore[Any]) -> list[str | None]:
    return [found.change_id for found in await stored(store)]


class Counting(MemoryAuditStore):
    """A store that counts what it is asked to append."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[str | None]] = []

    async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
        self.calls.append([given.change_id for given in entries])
        await super().append(entries, session=session)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(_audit, "_LOOK_AGAIN_AFTER", 0.0)


@pytest.fixture
def memory() -> MemoryAuditStore:
    return MemoryAuditStore()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request, tmp_path) -> AsyncIterator[AuditStore[Any]]:
    given: AuditStore[Any] = MemoryAuditStore()
    if request.param == "sqlite":
        given = SQLiteAuditStore(tmp_path / "audit.db")

    async with given as store:
        await store.create()
        yield store


class TestNumbers:
    async def test_entries_are_numbered_without_gaps(self, store):
        log = make_log(store)
        await log.append(entry("a"))
        await log.append(entry("b"), entry("c"))
        await log.append(entry("d"))

        found = await stored(store)
        assert [(e.sequence, e.change_id) for e in found] == [
            (1, "a"),
            (2, "b"),
            (3, "c"),
            (4, "d"),
        ]

    async def test_the_written_entries_are_returned(self, store):
        written = await make_log(store).append(entry("a"), entry("b"))

        assert list(written) == await stored(store)

    async def test_it_goes_on_after_what_was_read(self, store):
        await make_log(store).append(entry("a"), entry("b"))
        log = make_log(store)
        await log.read()
        [written] = await log.append(entry("c"))

        assert written.sequence == 3

    async def test_the_digests_are_a_chain_that_the_store_alone_can_prove(self, store):
        log = make_log(store)
        await log.append(entry("a", metadata={"text": "ö", "n": 1.5}), entry("b"))
        other = make_log(store)
        await other.read()
        await other.append(entry("c", error_trace="Traceback"))

        previous = ""
        for found in await stored(store):
            assert found.digest == found.compute_digest(previous)
            previous = found.digest

        assert previous

    async def test_entries_carry_the_epoch_of_the_lease(self, memory):
        log = make_log(memory)
        log.work_under(lease(epoch=5))
        [written] = await log.append(entry(epoch=1))

        assert written.epoch == 5

    async def test_without_a_lease_they_keep_their_own(self, memory):
        [written] = await make_log(memory).append(entry(epoch=9))

        assert written.epoch == 9

    async def test_services_are_numbered_apart(self, memory):
        await memory.append([entry(service="other").sealed(sequence=1, previous="")])
        [written] = await make_log(memory).append(entry())

        assert written.sequence == 1


class TestHistory:
    async def test_it_holds_the_last_entry_of_each_change(self, store):
        first = make_log(store)
        await first.append(entry("a"), entry("b"), entry("a", "APPLIED", epoch=4))
        await first.append(entry(change_id=None, type=AuditType.CHECKPOINT, state="APPLIED"))
        log = make_log(store)
        await log.read()

        assert {id: e.state for id, e in log.history.last.items()} == {
            "a": AuditState.APPLIED,
            "b": AuditState.STARTED,
        }
        assert (log.history.sequence, log.history.epoch) == (4, 4)
        assert log.history.digest == (await stored(store))[-1].digest

    async def test_it_holds_what_the_checkpoints_at_the_end_attest(self, store):
        log = make_log(store)
        await log.append(entry("a", checksum="no checkpoint"), _checkpoint("one"))
        await log.append(_checkpoint("two"))
        other = make_log(store)
        await other.read()

        assert list(log.history.checkpoints) == list(other.history.checkpoints) == ["one", "two"]

        await log.append(entry("b"))
        assert list(log.history.checkpoints) == []

    async def test_it_grows_by_what_is_appended(self, store):
        log = make_log(store)
        [written] = await log.append(entry("a"))

        assert log.history.sequence == 1
        assert log.history.last == {"a": written}

    async def test_only_what_is_new_is_read(self):
        class Watched(MemoryAuditStore):
            async def entries(
                self, service: str, *, after: int = 0, brief: bool = False
            ) -> AsyncIterator[AuditEntry]:
                async for found in super().entries(service, after=after, brief=brief):
                    read.append(found.change_id)
                    yield found

        read: list[str | None] = []
        store = Watched()
        log, other = make_log(store), make_log(store)
        await log.append(entry("a"))
        await log.read()
        assert read == []

        await other.read()
        await other.append(entry("b"))
        read.clear()
        await log.read()
        assert read == ["b"]

    async def test_error_traces_are_left_in_the_store(self, store):
        await make_log(store).append(entry("a", error_trace="a long one"))
        log = make_log(store)
        await log.read()

        assert log.history.last["a"].error_trace is None
        assert (await log.entry(1)).error_trace == "a long one"

    async def test_an_entry_that_has_disappeared_is_missed(self, store):
        with pytest.raises(AuditStoreError, match="entry 7 of service 'shop' has disappeared"):
            await make_log(store).entry(7)

    async def test_the_tail_is_newest_first_and_short(self, store):
        log = make_log(store)
        await log.append(*(entry(str(number)) for number in range(1, 12)))

        assert [e.sequence for e in await log.tail()] == [11, 10, 9, 8, 7, 6, 5, 4]


class TestConflict:
    async def test_a_taken_number_is_refused_and_the_history_is_read_again(self, store):
        log, other = make_log(store), make_log(store)
        [standing] = await other.append(entry("other"))
        with pytest.raises(SequenceConflictError) as refused:
            await log.append(entry("mine", "APPLIED"))

        assert (refused.value.sequence, refused.value.state) == (1, AuditState.APPLIED)
        assert log.history.sequence == 1
        assert log.history.last["other"].entry_id == standing.entry_id
        assert await ids(store) == ["other"]

    async def test_after_a_conflict_it_goes_on_behind_the_others(self, store):
        log, other = make_log(store), make_log(store)
        await other.append(entry("other"))
        with suppress(SequenceConflictError):
            await log.append(entry("mine"))

        [written] = await log.append(entry("mine"))
        assert written.sequence == 2
        assert written.digest == written.compute_digest((await stored(store))[0].digest)

    async def test_nothing_of_a_refused_call_is_written(self, store):
        log, other = make_log(store), make_log(store)
        await other.append(entry("other"))
        with pytest.raises(SequenceConflictError):
            await log.append(entry("a"), entry("b"), entry("c"))

        assert await ids(store) == ["other"]

    async def test_one_that_has_read_a_later_epoch_has_lost_its_lease(self, store):
        log, successor = make_log(store), make_log(store)
        mine = lease(epoch=3)
        log.work_under(mine)
        await successor.append(entry("theirs", epoch=4))
        with pytest.raises(LockLostError, match="was followed by epoch 4 in the audit log"):
            await log.append(entry("mine"))

        assert not mine.is_standing
        assert await ids(store) == ["theirs"]
        with pytest.raises(LockLostError):
            await log.append(entry("mine"))

    async def test_to_read_a_later_epoch_is_to_lose_the_lease(self, store):
        log = make_log(store)
        log.work_under(lease(epoch=3))
        await make_log(store).append(entry("theirs", epoch=4))
        with pytest.raises(LockLostError):
            await log.read()

    @pytest.mark.parametrize("epoch", [2, 3])
    async def test_entries_of_earlier_leases_are_no_loss(self, memory, epoch):
        log = make_log(memory)
        log.work_under(lease(epoch=3))
        await make_log(memory).append(entry("theirs", epoch=epoch))

        await log.read()
        assert log.history.last.keys() == {"theirs"}


class TestLease:
    async def test_nothing_is_written_after_its_end(self, memory):
        clock = Clock()
        log = make_log(memory)
        log.work_under(lease(clock=clock))
        clock.now = 57.0
        with pytest.raises(LockLostError):
            await log.append(entry())

        assert await stored(memory) == []

    async def test_nothing_is_tried_again_after_its_end(self):
        clock = Clock()

        class Silent(Counting):
            async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
                self.calls.append([])
                clock.now += 20.0
                raise UnknownOutcomeError("The answer was lost.")

        store = Silent()
        log = make_log(store)
        log.work_under(lease(clock=clock))
        with pytest.raises(LockLostError):
            await log.append(entry())

        assert len(store.calls) == 3


class LostAnswers(Counting):
    """A store that loses the first answer, after it has written so many of the entries."""

    def __init__(self, *, written: int) -> None:
        super().__init__()
        self._written: int | None = written

    async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
        if self._written is None:
            await super().append(entries, session=session)
            return

        count, self._written = self._written, None
        await super().append(entries[:count], session=session)
        raise UnknownOutcomeError("The answer was lost.")


class TestLostAnswer:
    async def test_entries_that_stand_are_found(self, caplog):
        store = LostAnswers(written=2)
        log = make_log(store)
        with caplog.at_level(logging.WARNING):
            written = await log.append(entry("a"), entry("b"))

        assert list(written) == await stored(store)
        assert log.history.sequence == 2
        assert "The answer to an append was lost, it is tried again" in caplog.text

    async def test_entries_that_do_not_stand_are_written(self):
        store = LostAnswers(written=0)
        written = await make_log(store).append(entry("a"), entry("b"))

        assert list(written) == await stored(store)
        assert len(written) == 2

    async def test_a_call_that_was_cut_in_the_middle_is_completed(self):
        # a store without atomic batches: the first of the entries stands, and nobody else's
        store = LostAnswers(written=1)
        log = make_log(store)
        written = await log.append(entry("a"), entry("b"))

        assert await ids(store) == ["a", "b"]
        assert list(written) == await stored(store)
        assert log.history.sequence == 2

    async def test_somebody_elses_entry_in_its_place_is_a_conflict(self):
        other: AuditLog

        class Overtaken(LostAnswers):
            async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
                try:
                    await super().append(entries, session=session)
                except UnknownOutcomeError:
                    await other.append(entry("theirs"))
                    raise

        store = Overtaken(written=0)
        log, other = make_log(store), make_log(store)
        with pytest.raises(SequenceConflictError):
            await log.append(entry("mine"))

        assert await ids(store) == ["theirs"]

    async def test_a_store_that_hangs_is_asked_again(self, monkeypatch):
        monkeypatch.setattr(_audit, "ANSWERS_WITHIN", 0.05)

        class Hanging(Counting):
            async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
                await super().append(entries, session=session)
                if len(self.calls) == 1:
                    await anyio.sleep_forever()

        store = Hanging()
        log = make_log(store)
        log.work_under(lease())
        [written] = await log.append(entry())

        assert await stored(store) == [written]
        assert len(store.calls) == 2

    async def test_without_a_lease_it_is_not_tried_for_ever(self, monkeypatch):
        monkeypatch.setattr(_audit, "ANSWERS_WITHIN", 0.0)

        class Silent(MemoryAuditStore):
            async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
                await checkpoint()
                raise UnknownOutcomeError("The answer was lost.")

        with pytest.raises(UnknownOutcomeError):
            await make_log(Silent()).append(entry())


class OneByOne(Counting):
    """A store without atomic batches: what stands after a refusal is a prefix."""

    async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
        for given in entries:
            await super().append([given], session=session)
            await self.after(given)

    async def after(self, given: AuditEntry) -> None:
        """Do what a test wants to happen between two entries."""


class TestPrefix:
    async def test_entries_before_the_refused_one_stand(self):
        other: AuditLog

        class Overtaken(OneByOne):
            async def after(self, given: AuditEntry) -> None:
                if given.change_id == "a":
                    await other.read()
                    await other.append(entry("theirs"))

        store = Overtaken()
        log, other = make_log(store), make_log(store)
        with pytest.raises(SequenceConflictError) as refused:
            await log.append(entry("a", "APPLIED"), entry("b", "STARTED"))

        assert (refused.value.sequence, refused.value.state) == (2, AuditState.STARTED)
        assert await ids(store) == ["a", "theirs"]
        assert log.history.sequence == 2

    async def test_only_those_whose_entries_were_refused_are_told(self):
        other: AuditLog

        class Overtaken(OneByOne):
            async def after(self, given: AuditEntry) -> None:
                if given.change_id == "a":
                    await other.read()
                    await other.append(entry("theirs"))

        store = Overtaken()
        log, other = make_log(store), make_log(store)
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


class TestBusyStore:
    async def test_it_is_tried_again(self):
        class Busy(Counting):
            async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
                if len(self.calls) < 3:
                    self.calls.append([])
                    raise SystemBusyError("The store is locked.")

                await super().append(entries, session=session)

        store = Busy()
        await make_log(store, limit=30.0).append(entry("a"))

        assert await ids(store) == ["a"]

    async def test_a_read_is_tried_again_without_reading_twice(self, memory):
        class Busy(MemoryAuditStore):
            refused = False

            async def entries(
                self, service: str, *, after: int = 0, brief: bool = False
            ) -> AsyncIterator[AuditEntry]:
                async for found in super().entries(service, after=after, brief=brief):
                    yield found
                    if not self.refused:
                        self.refused = True
                        raise SystemBusyError("The store is locked.")

        store = Busy()
        await make_log(store).append(entry("a"), entry("b"))
        log = make_log(store, limit=30.0)

        await log.read()
        assert log.history.sequence == 2

    async def test_it_is_not_tried_for_ever(self):
        class Busy(MemoryAuditStore):
            async def last(self, service: str, count: int) -> Sequence[AuditEntry]:
                raise SystemBusyError("The store is locked.")

        with pytest.raises(LockTimeoutError):
            await make_log(Busy()).tail()


class Transaction:
    """Writes that reach the store when they are committed."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []


class Transactional(MemoryAuditStore):
    async def append(self, entries: Sequence[AuditEntry], *, session: Any = None) -> None:
        if session is not None:
            session.entries.extend(entries)
            return

        await super().append(entries)


class TestWithinTransactions:
    async def test_what_is_committed_is_confirmed(self):
        store, transaction = Transactional(), Transaction()
        log = make_log(store)
        log.work_under(lease(epoch=3))
        async with log.turn():
            written = await log.append_within(transaction, entry("a", "APPLIED"))
            assert log.history.sequence == 0

            await store.append(transaction.entries)
            log.confirm(written)

        assert await stored(store) == [written]
        assert (written.sequence, written.epoch) == (1, 3)
        assert log.history.last == {"a": written}

    async def test_a_number_that_was_rolled_back_is_used_again(self):
        store = Transactional()
        log = make_log(store)
        async with log.turn():
            rolled_back = await log.append_within(Transaction(), entry("a", "APPLIED"))

        [written] = await log.append(entry("a", "FAILED"))
        assert rolled_back.sequence == written.sequence == 1

    async def test_nobody_appends_during_the_turn(self):
        store, transaction = Transactional(), Transaction()
        log = make_log(store)
        async with anyio.create_task_group() as tasks, log.turn():
            tasks.start_soon(log.append, entry("b"))
            await anyio.wait_all_tasks_blocked()
            written = await log.append_within(transaction, entry("a", "APPLIED"))
            await store.append(transaction.entries)
            log.confirm(written)

        assert await ids(store) == ["a", "b"]

    async def test_nothing_is_written_after_the_end_of_the_lease(self):
        clock, transaction = Clock(), Transaction()
        log = make_log(Transactional())
        log.work_under(lease(clock=clock))
        clock.now = 57.0
        async with log.turn():
            with pytest.raises(LockLostError):
                await log.append_within(transaction, entry("a", "APPLIED"))

        assert transaction.entries == []


class TestEvents:
    async def test_each_write_is_told(self, memory):
        heard: list[AuditWriteEvent] = []
        listeners = Listeners()
        listeners.add(AuditWriteEvent, heard.append)
        log = make_log(memory, listeners=listeners)
        await log.append(entry("a"), entry("b"))
        await make_log(memory).read()
        with suppress(SequenceConflictError):
            await make_log(memory, listeners=listeners).append(entry("c"))

        assert [(event.count, event.failed) for event in heard] == [(2, False), (1, True)]
        assert all(event.duration >= 0 for event in heard)
        assert (heard[0].service, heard[0].execution_id) == ("shop", "run")


def _checkpoint(digest: str | None) -> AuditEntry:
    return entry(change_id=None, state="APPLIED", type=AuditType.CHECKPOINT, checksum=digest)


_OTHER = entry("a", "APPLIED", checksum="mine")


@pytest.mark.parametrize(
    ("tail", "digest", "up_to_date"),
    [
        ([], "mine", False),
        ([_checkpoint("mine")], "mine", True),
        ([_checkpoint("other")], "mine", False),
        ([_checkpoint("other"), _checkpoint("mine")], "mine", True),
        ([_checkpoint("mine"), _OTHER], "mine", True),
        ([_checkpoint("other"), _OTHER, _checkpoint("mine")], "mine", False),
        ([_OTHER], "mine", False),
        ([_OTHER, _checkpoint("mine")], "mine", False),
        ([_checkpoint(str(n)) for n in range(7)] + [_checkpoint("mine")], "mine", True),
        ([_checkpoint("mine")], None, False),
        ([_checkpoint(None)], None, False),
    ],
)
def test_nothing_is_pending_if_only_checkpoints_follow_one_with_the_digest(
    tail, digest, up_to_date
):
    assert is_up_to_date(tail, digest) is up_to_date
