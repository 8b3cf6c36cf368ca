"""The conformance suite of transactional target systems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync

from .._states import MarkerOutcome
from ..abc import TransactionalTargetSystem
from ..exceptions import ConfigurationError, LockLostError
from ._patience import insist

TargetFactory = Callable[[], TransactionalTargetSystem[Any]]


class _Stop(Exception):
    """Ends a block."""


class TargetSystemSuite:
    """
    What every transactional target system must do.

    A subclass overrides the fixture :meth:`make_target`, and the coroutines that do with the
    objects of the target what a change would do.
    """

    @pytest.fixture
    def make_target(self) -> TargetFactory:
        """Return a function that gives, at each call, another handle on one empty system."""
        raise NotImplementedError("Override the fixture make_target.")

    async def write(self, objects: Mapping[str, Any], value: str) -> None:
        """Write *value*, beside those that are there, with the objects of the target."""
        raise NotImplementedError

    async def read(self, objects: Mapping[str, Any]) -> Sequence[str]:
        """Return the values that are there, in any order."""
        raise NotImplementedError

    async def commit(self, objects: Mapping[str, Any]) -> None:
        """Try to commit the transaction, as a change must not; any error is fine."""
        raise NotImplementedError

    async def roll_back(self, objects: Mapping[str, Any]) -> None:
        """Try to roll the transaction back, as a change must not; any error is fine."""
        raise NotImplementedError

    async def values(self, make_target: TargetFactory) -> list[str]:
        """Return what somebody else sees, sorted."""
        async with make_target() as other, other.handles() as objects:
            return sorted(await self.read(objects))

    async def do(
        self,
        target: TransactionalTargetSystem[Any],
        value: str,
        *,
        key: str | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Write *value* in a transaction, with the marker *key*, ended by *error*."""
        async with target.transaction() as session:
            await self.write(target.objects(session), value)
            if key is not None:
                await target.insert_marker(session, key, "change-1")

            if error is not None:
                raise error

    async def test_objects_are_what_is_offered(self, make_target: TargetFactory) -> None:
        """Both kinds of use give an object of the offered type for each offer."""
        target = make_target()
        offers = target.offers()
        names = [name for offer in offers for name in offer.names]
        assert offers
        assert len(set(names)) == len(names)

        async with target:
            async with target.handles() as objects:
                for offer in offers:
                    assert isinstance(objects[offer.names[0]], offer.type)

            async with target.transaction() as session:
                objects = target.objects(session)
                for offer in offers:
                    assert isinstance(objects[offer.names[0]], offer.type)

    async def test_writes_outside_a_transaction_stand(self, make_target: TargetFactory) -> None:
        """A handle needs no commit, and an error takes nothing back."""
        async with make_target() as target:
            with suppress(_Stop):
                async with target.handles() as objects:
                    await self.write(objects, "a")
                    raise _Stop

        assert await self.values(make_target) == ["a"]

    async def test_a_transaction_is_committed(self, make_target: TargetFactory) -> None:
        """At the end of the block what it wrote is there for others."""
        async with make_target() as target:
            await self.do(target, "a")
            assert await self.values(make_target) == ["a"]

    async def test_an_error_rolls_back_and_passes(self, make_target: TargetFactory) -> None:
        """What the block raises comes out as it is, and nothing of the block stands."""
        error = _Stop()
        async with make_target() as target:
            with pytest.raises(_Stop) as raised:
                await self.do(target, "a", error=error)

            assert raised.value is error
            assert await self.values(make_target) == []

    async def test_a_cancellation_rolls_back(self, make_target: TargetFactory) -> None:
        """A change that is cut off leaves nothing behind, and nothing locked."""
        async with make_target() as target:
            with anyio.CancelScope() as scope:
                async with target.transaction() as session:
                    await self.write(target.objects(session), "a")
                    scope.cancel()
                    await anyio.sleep_forever()

            assert scope.cancelled_caught
            await insist(lambda: self.do(target, "b"))

        assert await self.values(make_target) == ["b"]

    async def test_a_finished_block_is_committed_in_spite_of_a_cancellation(
        self, make_target: TargetFactory
    ) -> None:
        """A commit is never cut off half-way."""
        async with make_target() as target:
            with anyio.CancelScope() as scope:
                async with target.transaction() as session:
                    await self.write(target.objects(session), "a")
                    scope.cancel()

        assert await self.values(make_target) == ["a"]

    async def test_a_change_cannot_commit(self, make_target: TargetFactory) -> None:
        """What the code of a change commits is rolled back all the same."""
        async with make_target() as target:
            with suppress(_Stop):
                async with target.transaction() as session:
                    await self.write(target.objects(session), "a")
                    with suppress(Exception):
                        await self.commit(target.objects(session))

                    raise _Stop

        assert await self.values(make_target) == []

    async def test_a_change_cannot_roll_back(self, make_target: TargetFactory) -> None:
        """What the code of a change rolls back is committed, or the block raises."""
        committed = False
        async with make_target() as target:
            with suppress(Exception):
                async with target.transaction() as session:
                    await self.write(target.objects(session), "a")
                    with suppress(Exception):
                        await self.roll_back(target.objects(session))

                committed = True

        assert await self.values(make_target) == (["a"] if committed else [])

    async def test_it_works_on_after_errors(self, make_target: TargetFactory) -> None:
        """Nothing is used up by blocks that raise."""
        async with make_target() as target:
            for _ in range(20):
                with suppress(_Stop):
                    await self.do(target, "a", error=_Stop())

            await self.do(target, "b")

        assert await self.values(make_target) == ["b"]

    async def test_many_use_it_at_once(self, make_target: TargetFactory) -> None:
        """Stages run side by side on one target; each transaction is its own."""
        async with make_target() as target, anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(insist, partial(self.do, target, str(number)))

        assert await self.values(make_target) == sorted(map(str, range(8)))

    async def test_a_marker_is_committed_with_its_transaction(
        self, make_target: TargetFactory
    ) -> None:
        """Who claims it afterwards learns that the transaction was committed, each time."""
        async with make_target() as target:
            await self.do(target, "a", key="k")

        async with make_target() as target:
            for _ in range(2):
                assert await target.claim_marker("k", "change-1") is MarkerOutcome.COMMITTED

    async def test_a_marker_vanishes_with_its_transaction(self, make_target: TargetFactory) -> None:
        """A transaction that was rolled back leaves no marker."""
        async with make_target() as target:
            with suppress(_Stop):
                await self.do(target, "a", key="k", error=_Stop())

            assert await target.claim_marker("k", "change-1") is MarkerOutcome.ABORTED

    async def test_a_claimed_transaction_is_never_committed(
        self, make_target: TargetFactory
    ) -> None:
        """The marker of a zombie is refused, and its work rolled back."""
        async with make_target() as target, make_target() as other:
            for _ in range(2):
                assert await other.claim_marker("k", "change-1") is MarkerOutcome.ABORTED

            with pytest.raises(LockLostError, match="change-1"):
                await self.do(target, "a", key="k")

            await self.do(target, "b", key="l")
            assert await other.claim_marker("k", "change-1") is MarkerOutcome.ABORTED

        assert await self.values(make_target) == ["b"]

    async def test_of_a_claim_and_a_transaction_one_wins(self, make_target: TargetFactory) -> None:
        """However they meet, the outcome of the claim is what happened."""
        outcomes: dict[str, MarkerOutcome] = {}

        async def claim(other: TransactionalTargetSystem[Any], key: str) -> None:
            outcomes[key] = await insist(lambda: other.claim_marker(key, "change-1"))

        async def work(target: TransactionalTargetSystem[Any], key: str) -> None:
            with suppress(LockLostError):
                await insist(lambda: self.do(target, key, key=key))

        keys = [f"k{number}" for number in range(10)]
        async with make_target() as target, make_target() as other:
            for key in keys:
                async with anyio.create_task_group() as group:
                    group.start_soon(work, target, key)
                    group.start_soon(claim, other, key)

        committed = [key for key in keys if outcomes[key] is MarkerOutcome.COMMITTED]
        assert await self.values(make_target) == committed

    async def test_of_two_transactions_with_one_marker_one_is_committed(
        self, make_target: TargetFactory
    ) -> None:
        """A second runner of the same attempt is refused."""
        async with make_target() as target:
            await self.do(target, "a", key="k")
            with pytest.raises(LockLostError):
                await self.do(target, "b", key="k")

        assert await self.values(make_target) == ["a"]

    async def test_a_marker_is_removed_and_no_other(self, make_target: TargetFactory) -> None:
        """Removing is idempotent, needs no marker, and leaves young tombstones alone."""
        async with make_target() as target:
            await target.remove_marker("k")
            await self.do(target, "a", key="k")
            await self.do(target, "b", key="l")
            await target.claim_marker("tombstone", "change-1")
            for _ in range(2):
                await target.remove_marker("k")

            assert await target.claim_marker("k", "change-1") is MarkerOutcome.ABORTED
            assert await target.claim_marker("l", "change-1") is MarkerOutcome.COMMITTED
            with pytest.raises(LockLostError):
                await self.do(target, "c", key="tombstone")

    async def test_opens_are_counted(self, make_target: TargetFactory) -> None:
        """The last close disconnects, none before it; and it can be opened again."""
        target = make_target()
        async with target:
            async with target:
                await self.do(target, "a")

            await self.do(target, "b")

        async with target:
            await self.do(target, "c")

        assert await self.values(make_target) == ["a", "b", "c"]

    async def test_a_second_event_loop_is_refused(self, make_target: TargetFactory) -> None:
        """A target that is open belongs to its event loop."""
        async with make_target() as target:
            with pytest.raises(ConfigurationError, match="event loop"):
                await run_sync(anyio.run, target.open)
