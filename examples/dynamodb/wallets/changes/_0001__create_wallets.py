from __future__ import annotations

from aiobotocore.client import AioBaseClient

from aflamingock import Verification, change


@change(
    id="create-wallets",
    author="game-team",
    target_system="wallets",
    transactional=False,  # a table is not made in a transaction
)
class CreateWallets:
    """Create the table of wallets."""

    async def execute(self, client: AioBaseClient) -> None:
        await client.create_table(
            TableName="wallets",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "owner", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "owner", "KeyType": "HASH"}],
        )
        await client.get_waiter("table_exists").wait(TableName="wallets")

    async def rollback(self, client: AioBaseClient) -> None:
        await client.delete_table(TableName="wallets")
        await client.get_waiter("table_not_exists").wait(TableName="wallets")

    async def verify(self, client: AioBaseClient) -> Verification:
        """Say, after a crash, whether the table is there; it may be in the making."""
        try:
            await client.describe_table(TableName="wallets")
        except client.exceptions.ResourceNotFoundException:
            return Verification.NOT_APPLIED

        await client.get_waiter("table_exists").wait(TableName="wallets")
        return Verification.APPLIED
