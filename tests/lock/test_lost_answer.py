"""A lease in a store that is busy, or whose answers are lost."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from aflamingock._records import Record
from aflamingock.exceptions import LockTimeoutError, SystemBusyError, UnknownOutcomeError
from aflamingock.stores.memory import MemoryAuditStore
from tests.lock.kit import granted, left_behind, make_lock, read, written


class LostAnswers(MemoryAuditStore):
    """
    A store whose answers to some swaps are lost.

    :param lost: which swaps, counted from 1
    :param done: whether they are done all the same
    """

    def __init__(self, *lost: int, done: bool) -> None:
        super().__init__()
        self.swaps = 0
        self._lost = lost
        self._done = done

    async def swap_record(self, current: Record | None, new: Record) -> bool:
        self.swaps += 1
        if self.swaps not in self._lost:
            return await super().swap_record(current, new)

        if self._done:
            await super().swap_record(current, new)

        raise UnknownOutcomeError("The answer was lost.")


class TestLostAnswers:
    async def test_a_grant_that_was_done_is_found(self, time):
        store = LostAnswers(1, done=True)
        async with make_lock(store, time).hold(wait=False) as held:
            assert (await read(store)).token == granted(held).lease.token

        assert (await read(store)).released

    async def test_a_grant_that_was_not_done_is_tried_again(self, time):
        store = LostAnswers(1, 2, done=False)
        async with make_lock(store, time).hold() as held:
            assert granted(held).epoch == 1

        assert len(time.pauses) == 2

    async def test_a_release_that_was_done_is_found(self, time, caplog):
        store = LostAnswers(2, done=True)
        with caplog.at_level(logging.WARNING):
            async with make_lock(store, time).hold():
                pass

        assert store.swaps == 2
        assert (await read(store)).released
        assert caplog.records == []

    async def test_a_release_that_was_not_done_is_tried_again(self, time):
        store = LostAnswers(2, done=False)
        async with make_lock(store, time).hold():
            pass

        assert (await read(store)).released

    async def test_a_release_by_force_that_was_done_is_found(self, time):
        store = LostAnswers(2, done=True)
        await written(store, left_behind())
        released = await make_lock(store, time).release_by_force()

        assert released is not None
        assert (await read(store)).token == released.token

    async def test_a_renewal_that_was_under_way_at_the_end_is_released_as_well(self, memory, time):
        lock = make_lock(memory, time)
        async with lock.hold() as held:
            # as a heartbeat does whose answer comes after it was stopped
            renewed = replace(granted(held).lease, token="renewed")
            await written(memory, renewed)

        lease = await read(memory)
        assert lease.released
        assert lease.token != "renewed"


class TestBusyStore:
    async def test_it_is_tried_again(self, time):
        class Busy(MemoryAuditStore):
            refusals = 6

            async def swap_record(self, current: Record | None, new: Record) -> bool:
                if self.refusals:
                    self.refusals -= 1
                    raise SystemBusyError("The store is locked.")

                return await super().swap_record(current, new)

        async with make_lock(Busy(), time).hold() as held:
            assert granted(held).epoch == 1

        assert len(time.pauses) == 6

    async def test_it_is_not_waited_for_longer_than_for_the_lease(self, time):
        class Busy(MemoryAuditStore):
            async def read_record(self, key: str) -> Record | None:
                raise SystemBusyError("The store is locked.")

        with pytest.raises(LockTimeoutError, match="The store is locked"):
            async with make_lock(Busy(), time, timeout=5.0).hold():
                pass

        assert 5.0 <= sum(time.pauses) < 6.0
