from __future__ import annotations

import aiosqlite

from aflamingock import change

PRODUCTS = [(1, "Tea", 450), (2, "Cup", 1200), (3, "Spoon", 300)]


@change(id="first-products", author="shop-team", target_system="shop-db")
class FirstProducts:
    """Fill the shop: a change may bring data as well as structure."""

    async def execute(self, db: aiosqlite.Connection) -> None:
        await db.executemany(
            "INSERT INTO products (id, name, price_in_cents) VALUES (?, ?, ?)", PRODUCTS
        )

    async def rollback(self, db: aiosqlite.Connection) -> None:
        await db.executemany("DELETE FROM products WHERE id = ?", [(row[0],) for row in PRODUCTS])
