"""The job: it applies its changes, then prints what everybody has."""

from __future__ import annotations

import asyncio

import aioboto3

from aflamingock import Flamingock
from aflamingock.stores.dynamodb import DynamoDBAuditStore
from aflamingock.targets.dynamodb import DynamoDBTargetSystem

session = aioboto3.Session()  # region, keys and endpoint are those of AWS's own settings
wallets = DynamoDBTargetSystem("wallets", session)
flamingock = Flamingock(
    changes="wallets.changes",
    audit_store=DynamoDBAuditStore.from_target_system(wallets, billing_mode="PAY_PER_REQUEST"),
    target_systems=[wallets],
    service="wallets",
)


async def main() -> None:
    """Apply what is pending, and show the balances."""
    print(await flamingock.run())
    async with session.resource("dynamodb") as dynamodb:
        table = await dynamodb.Table("wallets")
        found = await table.scan(ConsistentRead=True)
        for wallet in sorted(found["Items"], key=lambda wallet: wallet["owner"]):
            print(f"{wallet['owner']:<8}{wallet['coins']:>6}")


if __name__ == "__main__":
    asyncio.run(main())
