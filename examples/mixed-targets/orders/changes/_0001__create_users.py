from __future__ import annotations

from aiosqlite import Connection

from aflamingock import change


@change(id="create-users", author="order-team", target_system="users")
class CreateUsers:
    """Create the table of users, in one transaction with the audit entry."""

    async def execute(self, db: Connection) -> None:
        await db.execute("CREATE TABLE users (name TEXT PRIMARY KEY)")
        await db.executemany("INSERT INTO users VALUES (?)", [("ada",), ("grace",)])

    async def rollback(self, db: Connection) -> None:
        await db.execute("DROP TABLE users")
