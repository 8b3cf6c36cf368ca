"""The lease is looked at, and taken away from whoever holds it."""

from __future__ import annotations

from dataclasses import replace

from aflamingock._records import Record
from aflamingock.stores.memory import MemoryAuditStore
from tests.lock.kit import granted, left_behind, make_lock, read, written


class TestStatus:
    async def test_before_the_first_run_it_is_free(self, store, time):
        status = await make_lock(store, time).status()

        assert (status.state, status.lease) == ("free", None)

    async def test_in_a_run_it_is_held(self, store, time):
        lock = make_lock(store, time)
        async with lock.hold():
            status = await lock.status()

        assert status.state == "held"
        assert status.lease is not None
        assert status.lease.owner == "run"

    async def test_after_a_run_it_is_free(self, store, time):
        lock = make_lock(store, time)
        async with lock.hold():
            pass

        status = await lock.status()
        assert status.state == "free"
        assert status.lease is not None

    async def test_without_a_renewal_it_is_expired(self, backend, store, time):
        await written(store, left_behind(ttl=6.0))
        backend.let_age(7.0)

        assert (await make_lock(store, time).status()).state == "expired"

    async def test_to_look_changes_nothing(self, store, time):
        before = await written(store, left_behind())
        await make_lock(store, time).status()

        assert (await read(store)).token == before.token


class TestReleaseByForce:
    async def test_it_frees_the_lease_and_raises_the_epoch(self, store, time):
        await written(store, left_behind())
        lock = make_lock(store, time)
        released = await lock.release_by_force()

        assert released is not None
        assert (released.epoch, released.released, released.owner) == (8, True, "other")
        assert (await lock.status()).state == "free"
        async with lock.hold(wait=False) as held:
            assert granted(held).epoch == 9

    async def test_the_holder_cannot_write_the_lease_any_more(self, store, time):
        async with make_lock(store, time, "holder").hold() as held:
            await make_lock(store, time, "operator").release_by_force()

            mine = granted(held).lease
            assert not await store.swap_record(mine.to_record(), mine.to_record())

        assert (await read(store)).epoch == 2

    async def test_a_holder_that_leaves_does_not_free_the_lease_of_its_successor(self, store, time):
        async with make_lock(store, time, "holder").hold():
            await make_lock(store, time, "operator").release_by_force()
            successor = await written(store, left_behind(owner="successor", epoch=3))

        assert (await read(store)).token == successor.token
        assert not (await read(store)).released

    async def test_the_epoch_is_above_that_of_the_log(self, store, time):
        await written(store, left_behind())
        released = await make_lock(store, time).release_by_force(above=41)

        assert released is not None
        assert released.epoch == 42

    async def test_a_free_lease_is_left_alone(self, store, time):
        lock = make_lock(store, time)
        assert await lock.release_by_force() is None

        before = await written(store, left_behind(released=True))
        assert await lock.release_by_force() is None
        assert (await read(store)).token == before.token

    async def test_one_that_was_renewed_meanwhile_is_left_alone(self, time):
        class Renewed(MemoryAuditStore):
            async def swap_record(self, current: Record | None, new: Record) -> bool:
                if current is not None:
                    await super().swap_record(current, replace(current, token="renewed"))

                return await super().swap_record(current, new)

        store = Renewed()
        await written(store, left_behind())

        assert await make_lock(store, time).release_by_force() is None
        assert (await read(store)).token == "renewed"
