"""How to test changes, one alone and all, on an emulator that lives in this process."""

from __future__ import annotations

from collections.abc import Iterator

import aioboto3
import pytest
from moto.server import ThreadedMotoServer

from aflamingock import Verification, run_changes
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.targets.dynamodb import DynamoDBTargetSystem
from wallets.changes._0001__create_wallets import CreateWallets

SESSION = aioboto3.Session("key", "secret", region_name="eu-west-1")


@pytest.fixture
def endpoint_url() -> Iterator[str]:
    """Lend an empty DynamoDB."""
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


async def test_a_table_is_there_until_it_is_rolled_back(endpoint_url: str) -> None:
    table = CreateWallets()
    async with SESSION.client("dynamodb", endpoint_url=endpoint_url) as client:
        assert await table.verify(client) is Verification.NOT_APPLIED

        await table.execute(client)
        assert await table.verify(client) is Verification.APPLIED

        await table.rollback(client)
        assert await table.verify(client) is Verification.NOT_APPLIED


async def test_the_bonus_is_paid_by_the_bank(endpoint_url: str) -> None:
    wallets = DynamoDBTargetSystem("wallets", SESSION, endpoint_url=endpoint_url)

    report = await run_changes(
        "wallets.changes", audit_store=MemoryAuditStore(), target_systems=[wallets]
    )

    assert [change.change_id for change in report.applied][-1] == "welcome-bonus"
    async with SESSION.client("dynamodb", endpoint_url=endpoint_url) as client:
        found = await client.scan(TableName="wallets")

    assert {wallet["owner"]["S"]: wallet["coins"]["N"] for wallet in found["Items"]} == {
        "bank": "900",
        "ada": "70",
        "grace": "80",
    }
