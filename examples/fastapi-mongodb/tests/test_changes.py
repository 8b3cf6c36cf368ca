"""How to test changes: all of them, forth and back, and one of them alone."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from aflamingock import Flamingock
from aflamingock.stores.mongodb import MongoDBAuditStore
from aflamingock.targets.mongodb import MongoDBTargetSystem
from catalog.changes._0003__prices_with_currency import PricesWithCurrency


@pytest.fixture
async def db() -> AsyncIterator[AsyncDatabase]:
    """Lend an empty database."""
    url = os.environ.get("MONGODB_URL", "mongodb://localhost:27017")
    async with AsyncMongoClient(url) as client:
        db = client.get_database(f"catalog_test_{uuid4().hex}")
        yield db
        await client.drop_database(db)


async def test_all_changes_can_be_applied_and_undone(db: AsyncDatabase) -> None:
    catalog_db = MongoDBTargetSystem("catalog-db", db.client, db.name)
    flamingock = Flamingock(
        changes="catalog.changes",
        audit_store=MongoDBAuditStore.from_target_system(catalog_db),
        target_systems=[catalog_db],
    )
    async with flamingock:
        report = await flamingock.run()
        assert len(report.applied) == 3
        assert await db.products.count_documents({}) == 3

        await flamingock.undo(last=len(report.applied))
        assert "products" not in await db.list_collection_names()


async def test_a_price_gets_its_currency_and_loses_it_again(db: AsyncDatabase) -> None:
    await db.products.insert_one({"_id": "tea-01", "price": 4.5})

    await PricesWithCurrency().execute(db)
    assert await db.products.find_one() == {
        "_id": "tea-01",
        "price": {"amount": 4.5, "currency": "EUR"},
    }

    await PricesWithCurrency().rollback(db)
    assert await db.products.find_one() == {"_id": "tea-01", "price": 4.5}
