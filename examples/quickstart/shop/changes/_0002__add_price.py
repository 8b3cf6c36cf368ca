from __future__ import annotations

import aiosqlite

from aflamingock import change


@change(id="add-price", author="shop-team", target_system="shop-db")
class AddPrice:
    """Give every product a price."""

    async def execute(self, db: aiosqlite.Connection) -> None:
        await db.execute(
            "ALTER TABLE products ADD COLUMN price_in_cents INTEGER NOT NULL DEFAULT 0"
        )

    async def rollback(self, db: aiosqlite.Connection) -> None:
        await db.execute("ALTER TABLE products DROP COLUMN price_in_cents")
