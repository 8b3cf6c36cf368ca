from __future__ import annotations

from datetime import date

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from aflamingock import change

FOUNDED = date(1815, 12, 10)


@change(id="add-joined-on", author="club-team", target_system="club-db")
class AddJoinedOn:
    """Note when everybody joined: column, data and constraint come together, or not at all."""

    async def execute(self, db: AsyncConnection) -> None:
        await db.execute(text("ALTER TABLE members ADD COLUMN joined_on DATE"))
        await db.execute(text("UPDATE members SET joined_on = :day"), {"day": FOUNDED})
        await db.execute(text("ALTER TABLE members ALTER COLUMN joined_on SET NOT NULL"))

    async def rollback(self, db: AsyncConnection) -> None:
        await db.execute(text("ALTER TABLE members DROP COLUMN joined_on"))
