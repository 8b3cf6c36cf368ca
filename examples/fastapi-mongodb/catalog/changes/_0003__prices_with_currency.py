from __future__ import annotations

from pymongo.asynchronous.database import AsyncDatabase

from aflamingock import change


@change(id="prices-with-currency", author="catalog-team", target_system="catalog-db")
class PricesWithCurrency:
    """Turn every price from a number into an amount in euros."""

    async def execute(self, db: AsyncDatabase) -> None:
        euros = {"amount": "$price", "currency": "EUR"}
        await db.products.update_many({"price": {"$type": "number"}}, [{"$set": {"price": euros}}])

    async def rollback(self, db: AsyncDatabase) -> None:
        amount = {"$set": {"price": "$price.amount"}}
        await db.products.update_many({"price.currency": "EUR"}, [amount])
