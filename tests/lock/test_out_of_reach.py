"""A lease in a store whose answers come late, or not for a while."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from aflamingock import _retry
from aflamingock._records import Record
from aflamingock.exceptions import AuditStoreConnectionError, LockTimeoutError, UnknownOutcomeError
from aflamingock.stores.memory import MemoryAuditStore
from tests.lock.kit import Time, granted, left_behind, make_lock, read, written


class LateWrite(MemoryAuditStore):
    """
    A store that carries out its first swap late, and only then the call that is under way.

    :param calls: how many calls after the swap are answered before it
    """

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.swaps: list[Record] = []
        self._calls = calls
        self._late: Callable[[], Any] | None = None

    async def read_record(self, key: str) -> Record | None:
        await self._catch_up()
        return await super().read_record(key)

    async def swap_record(self, current: Record | None, new: Record) -> bool:
        self.swaps.append(new)
        if len(self.swaps) > 1:
            await self._catch_up()
            return await super().swap_record(current, new)

        swap = super().swap_record
        self._late = lambda: swap(current, new)
        raise UnknownOutcomeError("The answer was lost.")

    async def _catch_up(self) -> None:
        if self._late is None:
            return

        self._calls -= 1
        if self._calls < 0:
            late, self._late = self._late, None
            await late()


class TestAWriteThatComesLate:
    @pytest.mark.parametrize("calls", [1, 2])
    async def test_it_is_taken_up_as_ones_own(self, time, calls):
        store = LateWrite(calls)
        async with make_lock(store, time).hold() as held:
            assert granted(held).lease.token == store.swaps[0].token
            assert not (await read(store)).released

        assert (await read(store)).released
        assert len(time.pauses) == calls

    async def test_its_deadlines_count_from_the_request(self, time):
        store = LateWrite(1)
        async with make_lock(store, time).hold() as held:
            assert granted(held).must_renew_by == 1000.0 + 40.0

    async def test_who_has_given_up_leaves_no_lease_behind(self, time):
        store = LateWrite(1)
        with pytest.raises(LockTimeoutError):
            async with make_lock(store, time).hold(wait=False):
                pass

        assert (await read(store)).released


class Away(MemoryAuditStore):
    """A store in which a record cannot be read for some time."""

    def __init__(self, time: Time, until: float) -> None:
        super().__init__(clock=time.clock)
        self._time = time
        self._until = until

    async def read_record(self, key: str) -> Record | None:
        await checkpoint()
        if self._time.now < self._until:
            raise AuditStoreConnectionError("Unable to connect to audit store.")

        return await super().read_record(key)


class TestAStoreThatIsAway:
    async def test_who_waits_goes_on_when_it_is_back(self, time, caplog):
        with caplog.at_level(logging.WARNING):
            async with make_lock(Away(time, 1020.0), time).hold() as held:
                assert granted(held).epoch == 1

        assert "out of reach" in caplog.text

    async def test_it_is_waited_for_no_longer_than_for_the_lease(self, time):
        with pytest.raises(AuditStoreConnectionError):
            async with make_lock(Away(time, 5000.0), time).hold():
                pass

        assert 1180.0 <= time.now <= 1182.0

    async def test_who_does_not_wait_is_told_at_once(self, time):
        with pytest.raises(AuditStoreConnectionError):
            async with make_lock(Away(time, 5000.0), time).hold(wait=False):
                pass

        assert time.pauses == []

    async def test_one_that_cannot_be_asked_what_is_left_is_asked_again(self, time):
        store = MemoryAuditStore(clock=time.clock)
        await written(store, left_behind())
        answers = [AuditStoreConnectionError("Unable to connect to audit store."), None]

        async def nothing_left() -> bool:
            await checkpoint()
            if (answer := answers.pop(0)) is not None:
                raise answer

            return True

        async with make_lock(store, time).hold(done=nothing_left) as held:
            assert held is None


class Silent(MemoryAuditStore):
    """A store that does what it is asked, and never answers some calls."""

    def __init__(self, *silent: str) -> None:
        super().__init__()
        self._silent = list(silent)

    async def read_record(self, key: str) -> Record | None:
        answer = await super().read_record(key)
        await self._pause("read_record")
        return answer

    async def swap_record(self, current: Record | None, new: Record) -> bool:
        answer = await super().swap_record(current, new)
        await self._pause("swap_record")
        return answer

    async def _pause(self, name: str) -> None:
        if name in self._silent:
            self._silent.remove(name)
            await anyio.sleep_forever()


class TestAStoreThatIsSilent:
    @pytest.fixture(autouse=True)
    def short_limit(self, monkeypatch):
        monkeypatch.setattr(_retry, "ANSWERS_WITHIN", 0.05)

    async def test_it_is_not_read_for_ever(self, time):
        with anyio.fail_after(10), pytest.raises(AuditStoreConnectionError, match="not answered"):
            await make_lock(Silent("read_record"), time).status()

    async def test_a_grant_that_was_done_is_found(self, time):
        store = Silent("swap_record")
        with anyio.fail_after(10):
            async with make_lock(store, time).hold(wait=False) as held:
                assert granted(held).epoch == 1

        assert (await read(store)).released
