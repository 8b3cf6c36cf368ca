from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from aflamingock import change


@change(id="create-members", author="club-team", target_system="club-db")
class CreateMembers:
    """Create the table: on PostgreSQL DDL is part of a transaction like everything else."""

    async def execute(self, db: AsyncConnection) -> None:
        await db.execute(
            text(
                "CREATE TABLE members "
                "(id INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email TEXT NOT NULL)"
            )
        )

    async def rollback(self, db: AsyncConnection) -> None:
        await db.execute(text("DROP TABLE members"))
