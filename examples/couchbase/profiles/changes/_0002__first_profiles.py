from __future__ import annotations

from acouchbase.scope import AsyncScope
from acouchbase.transactions import AttemptContext

from aflamingock import change

PROFILES = {"ada": "Ada Lovelace", "grace": "Grace Hopper"}


@change(id="first-profiles", author="user-team", target_system="profiles")
class FirstProfiles:
    """Write the first profiles: what goes through the transaction is committed with the log."""

    async def execute(self, scope: AsyncScope, transaction: AttemptContext) -> None:
        profiles = scope.collection("profiles")
        for key, name in PROFILES.items():
            await transaction.insert(profiles, key, {"name": name})

    async def rollback(self, scope: AsyncScope, transaction: AttemptContext) -> None:
        profiles = scope.collection("profiles")
        for key in PROFILES:
            await transaction.remove(await transaction.get(profiles, key))
