from __future__ import annotations

from aiosqlite import Connection

from aflamingock import change


@change(id="add-user-status", author="order-team", target_system="users")
class AddUserStatus:
    """Give every user a status, now that orders can come."""

    async def execute(self, db: Connection) -> None:
        await db.execute("ALTER TABLE users ADD COLUMN status TEXT NOT NULL DEFAULT 'active'")

    async def rollback(self, db: Connection) -> None:
        await db.execute("ALTER TABLE users DROP COLUMN status")
