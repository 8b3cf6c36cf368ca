from __future__ import annotations

import aiosqlite

from aflamingock import change


@change(id="create-products", author="shop-team", target_system="shop-db")
class CreateProducts:
    """Create the table of products."""

    async def execute(self, db: aiosqlite.Connection) -> None:
        await db.execute("CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT NOT NULL)")

    async def rollback(self, db: aiosqlite.Connection) -> None:
        await db.execute("DROP TABLE products")
