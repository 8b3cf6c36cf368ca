from __future__ import annotations

from acouchbase.scope import AsyncScope
from acouchbase.transactions import AttemptContext

from aflamingock import change

KEYS = ("ada", "grace")


@change(id="split-names", author="user-team", target_system="profiles")
class SplitNames:
    """Keep given name and family name apart, in all profiles or in none."""

    async def execute(self, scope: AsyncScope, transaction: AttemptContext) -> None:
        for key in KEYS:
            found = await transaction.get(scope.collection("profiles"), key)
            given, family = found.content_as[dict]["name"].split(" ", 1)
            await transaction.replace(found, {"given": given, "family": family})

    async def rollback(self, scope: AsyncScope, transaction: AttemptContext) -> None:
        for key in KEYS:
            found = await transaction.get(scope.collection("profiles"), key)
            name = found.content_as[dict]
            await transaction.replace(found, {"name": f"{name['given']} {name['family']}"})
