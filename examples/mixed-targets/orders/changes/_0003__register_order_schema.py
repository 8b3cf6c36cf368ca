from __future__ import annotations

import json

import httpx

from aflamingock import Verification, change

ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [{"name": "id", "type": "string"}, {"name": "user", "type": "string"}],
}
SCHEMA = {"schema": json.dumps(ORDER)}


@change(id="register-order-schema", author="order-team", target_system="schemas")
class RegisterOrderSchema:
    """Register what an order looks like, before anybody writes one."""

    async def execute(self, http: httpx.AsyncClient) -> None:
        answer = await http.post("/subjects/orders-value/versions", json=SCHEMA)
        answer.raise_for_status()

    async def rollback(self, http: httpx.AsyncClient) -> None:
        answer = await http.delete("/subjects/orders-value")
        answer.raise_for_status()

    async def verify(self, http: httpx.AsyncClient) -> Verification:
        answer = await http.post("/subjects/orders-value", json=SCHEMA)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return Verification.NOT_APPLIED

        answer.raise_for_status()
        return Verification.APPLIED
