from __future__ import annotations

from aflamingock import change
from aflamingock.targets.dynamodb import TransactWriteItems

WALLETS = {"bank": 1000, "ada": 20, "grace": 30}


@change(id="first-wallets", author="game-team", target_system="wallets")
class FirstWallets:
    """Open the first wallets: all are written, together with the audit entry, or none is."""

    async def execute(self, items: TransactWriteItems) -> None:
        for owner, coins in WALLETS.items():
            items.put(
                TableName="wallets",
                Item={"owner": {"S": owner}, "coins": {"N": str(coins)}},
                ConditionExpression="attribute_not_exists(coins)",
            )

    async def rollback(self, items: TransactWriteItems) -> None:
        for owner in WALLETS:
            items.delete(TableName="wallets", Key={"owner": {"S": owner}})
