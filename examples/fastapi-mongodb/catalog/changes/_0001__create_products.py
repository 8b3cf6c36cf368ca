from __future__ import annotations

from pymongo.asynchronous.database import AsyncDatabase

from aflamingock import Recovery, change


@change(
    id="create-products",
    author="catalog-team",
    target_system="catalog-db",
    transactional=False,  # indexes are built outside of transactions
    recovery=Recovery.ALWAYS_RETRY,  # an index that exists already is not built again
)
class CreateProducts:
    """Create the collection of products, each with a number of its own."""

    async def execute(self, db: AsyncDatabase) -> None:
        await db.products.create_index("sku", unique=True)

    async def rollback(self, db: AsyncDatabase) -> None:
        await db.products.drop()
