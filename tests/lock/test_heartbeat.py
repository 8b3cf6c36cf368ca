"""The heartbeat: a lease is renewed whatever a change does, or the change is cancelled."""

from __future__ import annotations

import logging

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

from aflamingock._records import Lease, Record
from aflamingock.exceptions import (
    AuditStoreConnectionError,
    AuditStoreSchemaError,
    LockLostError,
    UnknownOutcomeError,
)
from tests.lock.heartbeat import Beating, Breakable, write
from tests.lock.kit import KEY, Time, read


class TestRenewal:
    @pytest.mark.parametrize(("drawn", "pause"), [(0.0, 9.0), (0.5, 10.0), (1.0, 11.0)])
    async def test_a_lease_is_renewed_every_sixth_of_its_ttl_with_jitter(self, drawn, pause):
        time, store = Time(), Breakable()
        beating = Beating(time, drawn=drawn)
        await beating.beat(store)

        assert time.pauses == pytest.approx([pause] * len(time.pauses))
        assert beating.held.is_standing
        assert beating.ended_at == []

    async def test_each_renewal_is_in_the_store_and_says_what_is_carried_out(self):
        store = Breakable()
        beating = Beating(Time())
        first = beating.held.lease.token
        beating.held.change_id = "add-users"
        await beating.beat(store)

        lease = await read(store)
        assert lease.token != first
        assert (lease.change_id, lease.epoch, lease.owner) == ("add-users", 3, "run")

    async def test_the_deadlines_count_from_before_the_request(self, monkeypatch):
        time = Time()

        class Slow(Breakable):
            async def before_swap(self) -> None:
                time.now += 2.0

        beating = Beating(time)
        renewals: list[float] = []
        monkeypatch.setattr(
            beating.held,
            "renewed",
            lambda lease, *, sent_at: renewals.append(time.now - sent_at),
        )
        await beating.beat(Slow())

        assert renewals[0] == 2.0


class TestOutage:
    async def test_the_change_is_cancelled_at_two_thirds_of_the_ttl(self, caplog):
        store = Breakable()
        store.broken = True
        beating = Beating(Time())
        with caplog.at_level(logging.WARNING):
            await beating.beat(store)

        assert beating.ended_at == [pytest.approx(40.0)]
        assert "AuditStoreConnectionError: out of reach); 47.0 s are left." in caplog.text

    async def test_it_beats_on_until_nothing_may_be_written(self):
        store = Breakable()
        store.broken = True
        beating = Beating(Time())
        await beating.beat(store)

        assert not beating.held.is_standing
        assert beating.time.now == pytest.approx(57.0)

    async def test_it_tries_again_soon(self):
        store = Breakable()
        store.broken = True
        beating = Beating(Time())
        await beating.beat(store)

        assert beating.time.pauses[:4] == pytest.approx([10.0, 0.5, 0.5, 0.5])

    async def test_with_a_short_ttl_it_tries_again_sooner(self):
        store = Breakable()
        store.broken = True
        beating = Beating(Time(), ttl=1.0)
        await beating.beat(store)

        assert beating.time.pauses[:3] == pytest.approx([1 / 6, 1 / 24, 1 / 24])
        assert beating.ended_at == [pytest.approx(2 / 3)]

    @pytest.mark.parametrize(("back_at", "cancelled"), [(39.0, False), (50.0, True)])
    async def test_a_store_that_comes_back_keeps_the_lease(self, back_at, cancelled):
        time = Time()

        class Recovering(Breakable):
            async def before_swap(self) -> None:
                if time.now < back_at:
                    raise AuditStoreConnectionError("out of reach")

        beating = Beating(time)
        await beating.beat(Recovering())

        assert beating.held.is_standing
        assert bool(beating.ended_at) is cancelled

    async def test_an_attempt_that_hangs_is_cut(self, caplog):
        class Hanging(Breakable):
            swaps = 0

            async def before_swap(self) -> None:
                self.swaps += 1
                if self.swaps == 1:
                    await anyio.sleep_forever()

        store = Hanging()
        beating = Beating(Time(), ttl=1.0)
        with caplog.at_level(logging.WARNING):
            await beating.beat(store)

        assert store.swaps > 1
        assert beating.held.is_standing
        assert "was not renewed (TimeoutError" in caplog.text

    async def test_a_renewal_whose_answer_was_lost_is_found(self):
        class Lost(Breakable):
            swaps = 0

            async def swap_record(self, current: Record | None, new: Record) -> bool:
                self.swaps += 1
                done = await super().swap_record(current, new)
                if self.swaps == 2:
                    raise UnknownOutcomeError("The answer was lost.")

                return done

        store = Lost()
        beating = Beating(Time())
        await beating.beat(store)

        assert beating.held.is_standing
        assert beating.ended_at == []
        assert (await read(store)).token == beating.held.lease.token

    async def test_its_deadlines_count_from_the_request_that_was_done(self):
        class Lost(Breakable):
            swaps = 0

            async def swap_record(self, current: Record | None, new: Record) -> bool:
                self.swaps += 1
                if self.swaps == 1:
                    await super().swap_record(current, new)

                if self.swaps > 2:  # the second one finds that the first was done
                    await anyio.sleep_forever()

                if self.swaps == 1:
                    raise UnknownOutcomeError("The answer was lost.")

                return await super().swap_record(current, new)

        beating = Beating(Time(until=15.0))
        store = Lost()
        await write(store, beating.held.lease)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(beating.heartbeat.beat, store)
                while store.swaps < 2 or beating.held.must_renew_by == 40.0:
                    await checkpoint()

                scope.cancel()

        assert beating.time.pauses == pytest.approx([10.0, 0.5])
        assert beating.held.must_renew_by == pytest.approx(10.0 + 40.0)


class TestLoss:
    async def _beat_until(self, lease: Lease | None) -> Beating:
        time = Time()

        class Taken(Breakable):
            async def before_swap(self) -> None:
                if time.now >= 20.0:
                    self._memory.records.clear()
                    if lease is not None:
                        self._memory.records[KEY] = (lease.to_record(), 0.0)

        beating = Beating(time)
        await beating.beat(Taken())
        assert beating.ended_at == [20.0]
        return beating

    async def test_a_lease_that_another_has_taken_is_lost_at_once(self):
        other = Lease(service="shop", owner="other", epoch=4, ttl=60.0, host="db-2", pid=7)
        beating = await self._beat_until(other)

        with pytest.raises(LockLostError, match=r"was taken over by db-2 \(process 7\).*epoch 4"):
            beating.held.check()

    async def test_a_lease_that_another_has_taken_and_given_back_was_not_released_by_force(self):
        other = Lease(service="shop", owner="other", epoch=4, ttl=60.0, host="db-2", released=True)
        beating = await self._beat_until(other)

        with pytest.raises(LockLostError, match=r"was taken over by db-2.*epoch 4"):
            beating.held.check()

    async def test_a_lease_that_was_released_by_force_is_lost_at_once(self):
        released = Lease(service="shop", owner="run", epoch=4, ttl=60.0, released=True)
        beating = await self._beat_until(released)

        with pytest.raises(LockLostError, match=r"was released by force \(epoch 4\)"):
            beating.held.check()

    async def test_a_lease_that_has_disappeared_is_lost_at_once(self):
        beating = await self._beat_until(None)

        with pytest.raises(LockLostError, match="has disappeared from the audit store"):
            beating.held.check()

    async def test_a_lease_whose_table_has_disappeared_is_lost_at_once(self):
        class Dropped(Breakable):
            async def before_swap(self) -> None:
                self._memory.records.clear()
                raise AuditStoreSchemaError("There is no such table.")

        beating = Beating(Time())
        await beating.beat(Dropped())

        assert beating.ended_at == [beating.heartbeat.interval]
        with pytest.raises(LockLostError, match="has disappeared from the audit store"):
            beating.held.check()

    async def test_a_run_that_has_read_of_its_loss_is_ended(self):
        beating = Beating(Time())
        beating.held.lose("was followed by epoch 4 in the audit log")
        await beating.beat(Breakable())

        assert beating.ended_at == [0.0]
