from __future__ import annotations

from aflamingock import change
from aflamingock.targets.dynamodb import TransactWriteItems

PLAYERS = ("ada", "grace")
BONUS = 50


@change(id="welcome-bonus", author="game-team", target_system="wallets")
class WelcomeBonus:
    """Give the first players a bonus, which is paid exactly once whatever happens meanwhile."""

    async def execute(self, items: TransactWriteItems) -> None:
        for player in PLAYERS:
            self._pay(items, player, BONUS)

        self._pay(items, "bank", -BONUS * len(PLAYERS))

    async def rollback(self, items: TransactWriteItems) -> None:
        for player in PLAYERS:
            self._pay(items, player, -BONUS)

        self._pay(items, "bank", BONUS * len(PLAYERS))

    def _pay(self, items: TransactWriteItems, owner: str, coins: int) -> None:
        """Nobody is left with a debt: then nothing is paid at all."""
        items.update(
            TableName="wallets",
            Key={"owner": {"S": owner}},
            UpdateExpression="ADD coins :coins",
            ConditionExpression="coins >= :debt",
            ExpressionAttributeValues={
                ":coins": {"N": str(coins)},
                ":debt": {"N": str(max(0, -coins))},
            },
        )
