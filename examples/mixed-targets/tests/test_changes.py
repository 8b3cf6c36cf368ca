"""How to test a change of a system without transactions: it is a plain class."""

from __future__ import annotations

import httpx

from aflamingock import Verification
from kafka_stand_in import app
from orders.changes._0003__register_order_schema import RegisterOrderSchema


async def test_a_schema_is_there_until_it_is_rolled_back() -> None:
    schema = RegisterOrderSchema()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://registry") as http:
        assert await schema.verify(http) is Verification.NOT_APPLIED

        await schema.execute(http)
        assert await schema.verify(http) is Verification.APPLIED

        await schema.rollback(http)
        assert await schema.verify(http) is Verification.NOT_APPLIED
