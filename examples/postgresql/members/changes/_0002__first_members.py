from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from aflamingock import change

MEMBERS = [{"email": "Ada@example.org"}, {"email": "grace@example.org"}]


@change(id="first-members", author="club-team", target_system="club-db")
class FirstMembers:
    """Enter those who founded the club."""

    async def execute(self, db: AsyncConnection) -> None:
        await db.execute(text("INSERT INTO members (email) VALUES (:email)"), MEMBERS)

    async def rollback(self, db: AsyncConnection) -> None:
        await db.execute(text("DELETE FROM members WHERE email = :email"), MEMBERS)
