from __future__ import annotations

import httpx

from aflamingock import Verification, change


@change(id="create-orders-topic", author="order-team", target_system="kafka")
class CreateOrdersTopic:
    """Create the topic of orders, through Kafka's REST proxy."""

    async def execute(self, http: httpx.AsyncClient) -> None:
        topic = {"topic_name": "orders", "partitions_count": 3}
        answer = await http.post("/topics", json=topic)
        answer.raise_for_status()

    async def rollback(self, http: httpx.AsyncClient) -> None:
        answer = await http.delete("/topics/orders")
        answer.raise_for_status()

    async def verify(self, http: httpx.AsyncClient) -> Verification:
        answer = await http.get("/topics/orders")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return Verification.NOT_APPLIED

        answer.raise_for_status()
        return Verification.APPLIED
