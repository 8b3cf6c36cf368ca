"""The rules for what an audit store creates, and for those who create it by hand."""

from __future__ import annotations

import pytest

from ..exceptions import AuditStoreError
from ._log import chain
from ._patience import StoreFactory, created, insist


class SchemaRules:
    """Tests of ``create``, ``auto_create``, ``verify_schema`` and ``permissions``."""

    async def test_what_is_missing_is_told_until_it_is_created(
        self, make_store: StoreFactory
    ) -> None:
        """``verify_schema`` creates nothing; after ``create`` nothing is missing."""
        async with make_store() as store:
            missing = await store.verify_schema()
            assert all(command.strip() for command in missing)
            assert await store.verify_schema() == missing

            await insist(store.create)

            assert await store.verify_schema() == []

    async def test_without_auto_create_nothing_is_created(self, make_store: StoreFactory) -> None:
        """The error lists the commands, for who may run them."""
        async with make_store() as store:
            missing = await store.verify_schema()
            if not missing:
                pytest.skip("the store needs nothing to be created")

            store.auto_create = False
            with pytest.raises(AuditStoreError) as refused:
                await store.create()

            assert [command for command in missing if command not in str(refused.value)] == []
            assert await store.verify_schema() == missing

    async def test_without_auto_create_a_complete_store_is_used(
        self, make_store: StoreFactory
    ) -> None:
        """What somebody else has created is enough."""
        async with created(make_store), make_store() as store:
            store.auto_create = False
            await store.create()
            await store.append(chain(1))

            assert len(await store.last("shop", 8)) == 1

    async def test_the_least_rights_are_told_without_a_connection(
        self, make_store: StoreFactory
    ) -> None:
        """An administrator needs them before the store can be reached."""
        assert make_store().permissions().strip()
