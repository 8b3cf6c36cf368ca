"""The conformance suite of audit stores."""

from __future__ import annotations

import anyio
import pytest
from anyio.to_thread import run_sync

from ..exceptions import ConfigurationError
from ._log import LogRules, chain
from ._patience import StoreFactory, created, insist
from ._record import IssueRules, RecordRules
from ._schema import SchemaRules


class AuditStoreSuite(LogRules, RecordRules, IssueRules, SchemaRules):
    """
    What every audit store must do.

    A subclass overrides the fixture :meth:`make_store`. That a store lets its ``auto_create`` be
    set is all that the suite asks for beside the methods.
    """

    @pytest.fixture
    def make_store(self) -> StoreFactory:
        """Return a function that gives, at each call, another handle on one empty store."""
        raise NotImplementedError("Override the fixture make_store.")

    async def test_creation_is_idempotent(self, make_store: StoreFactory) -> None:
        """Creating again loses nothing."""
        entries = chain(2)
        async with created(make_store) as store:
            await store.append(entries)
            await store.create()

            assert list(await store.last("shop", 8)) == entries[::-1]

    async def test_many_may_create_at_once(self, make_store: StoreFactory) -> None:
        """Many instances start together on an empty system."""

        async def create() -> None:
            async with make_store() as store:
                await insist(store.create)

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(create)

        async with created(make_store) as store:
            await store.append(chain(2))
            assert len(await store.last("shop", 8)) == 2

    async def test_opens_are_counted(self, make_store: StoreFactory) -> None:
        """The last close disconnects, none before it; and it can be opened again."""
        store = make_store()
        async with make_store() as keeper:
            await insist(keeper.create)
            async with store:
                async with store:
                    await store.append(chain(1))

                assert len(await store.last("shop", 8)) == 1

            async with store:
                assert len(await store.last("shop", 8)) == 1

    async def test_a_second_event_loop_is_refused(self, make_store: StoreFactory) -> None:
        """A store that is open belongs to its event loop."""
        async with created(make_store) as store:
            with pytest.raises(ConfigurationError, match="event loop"):
                await run_sync(anyio.run, store.open)

            assert list(await store.last("shop", 8)) == []

    async def test_a_connection_can_be_tried(self, make_store: StoreFactory) -> None:
        """It opens the store if need be, and leaves no trace in the log."""
        store = make_store()
        await store.test_connection()
        async with created(make_store) as keeper:
            await keeper.append(chain(1))
            await store.test_connection()
            assert len(await keeper.last("shop", 8)) == 1

    async def test_writing_can_be_tried_again_and_again(self, make_store: StoreFactory) -> None:
        """It creates what is missing, and touches neither the log nor other records."""
        async with make_store() as store:
            for _ in range(2):
                assert await insist(store.write_health_check) >= 0

            assert list(await store.last("shop", 8)) == []

    async def test_the_store_has_a_short_name(self, make_store: StoreFactory) -> None:
        """``repr`` is what messages call it."""
        store = make_store()

        assert repr(store).startswith(type(store).__name__)
        assert "\n" not in repr(store)
