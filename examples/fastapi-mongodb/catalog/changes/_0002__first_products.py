from __future__ import annotations

from pymongo.asynchronous.database import AsyncDatabase

from aflamingock import change

PRODUCTS = {"tea-01": ("Tea", 4.50), "cup-01": ("Cup", 12.00), "spoon-01": ("Spoon", 3.00)}


@change(id="first-products", author="catalog-team", target_system="catalog-db")
class FirstProducts:
    """Fill the catalogue: the products and the entry in the audit log are one transaction."""

    async def execute(self, db: AsyncDatabase) -> None:
        await db.products.insert_many(
            {"sku": sku, "name": name, "price": price} for sku, (name, price) in PRODUCTS.items()
        )

    async def rollback(self, db: AsyncDatabase) -> None:
        await db.products.delete_many({"sku": {"$in": list(PRODUCTS)}})
