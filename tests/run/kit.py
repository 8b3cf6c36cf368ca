"""A Flamingock that has run."""

from __future__ import annotations

from typing import Any

from aflamingock import Flamingock
from aflamingock.abc import AuditStore


async def applied(store: AuditStore[Any], changes: list[type], **options: Any) -> Flamingock:
    """Return a Flamingock that has applied its changes."""
    flamingock = Flamingock(changes=changes, audit_store=store, **options)
    await flamingock.run()
    return flamingock
