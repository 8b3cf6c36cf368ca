"""The markers of a DynamoDB target, in a table of their own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from .._records import new_id
from .._states import MarkerOutcome
from ..exceptions import LockLostError
from ._dynamodb import CallError, Trouble, answer
from ._dynamodb_items import TransactWriteItems
from ._dynamodb_table import Table, create
from ._refusal import claimed_error


class Markers:
    """
    The table of the markers; it is created when it is first needed.

    Every method raises :exc:`CallError` if a call fails, and may be called again.

    :param table: its name
    """

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = Table(name=table, keys={"key": "S"})
        self._is_there = False
        self._is_swept = False

    async def insert(self, items: TransactWriteItems, key: str, change_id: str) -> None:
        """Add the marker to a transaction, whose commit finds out whether it was claimed."""
        if not self._is_there:
            await self._create()

        put = self._put(key, MarkerOutcome.COMMITTED, change_id)

        def guard(item: Mapping[str, Any] | None) -> LockLostError | None:
            if item and item["token"] == put["Item"]["token"]:
                return None

            return claimed_error(change_id)

        items.add_last(put, guard)

    async def claim(self, key: str, change_id: str) -> MarkerOutcome:
        """Insert the marker as ABORTED if there is none, and return what it says then."""
        put = self._put(key, MarkerOutcome.ABORTED, change_id)
        try:
            try:
                await answer(self._client.put_item, **put)
            except CallError as exc:
                if exc.trouble is not Trouble.MISSING:
                    raise

                await self._create()
                await answer(self._client.put_item, **put)
        except CallError as exc:
            for _, item in exc.refused():
                if item:
                    return MarkerOutcome(item["outcome"]["S"])

            raise

        return MarkerOutcome.ABORTED

    async def remove(self, key: str) -> None:
        """Remove the marker; the first time also ABORTED ones that are older than a day."""
        try:
            await self._delete(key)
            if not self._is_swept:
                await self._sweep()
        except CallError as exc:
            if exc.trouble is not Trouble.MISSING:
                raise

        self._is_swept = True

    async def _sweep(self) -> None:
        query: dict[str, Any] = {
            "TableName": self._table.name,
            "FilterExpression": "#o = :aborted AND #c < :yesterday",
            "ExpressionAttributeNames": {"#o": "outcome", "#c": "createdAt"},
            "ExpressionAttributeValues": {
                ":aborted": {"S": MarkerOutcome.ABORTED.value},
                ":yesterday": {"S": _stored_time(datetime.now(UTC) - timedelta(days=1))},
            },
        }
        while True:
            page = await answer(self._client.scan, **query)
            for item in page["Items"]:
                await self._delete(item["key"]["S"])

            if "LastEvaluatedKey" not in page:
                return

            query["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def _delete(self, key: str) -> None:
        await answer(self._client.delete_item, TableName=self._table.name, Key={"key": {"S": key}})

    async def _create(self) -> None:
        await create(self._client, [self._table])
        self._is_there = True

    def _put(self, key: str, outcome: MarkerOutcome, change_id: str) -> dict[str, Any]:
        item = {
            "key": key,
            "outcome": outcome.value,
            "changeId": change_id,
            "createdAt": _stored_time(datetime.now(UTC)),
            "token": new_id(),
        }
        return {
            "TableName": self._table.name,
            "Item": {name: {"S": value} for name, value in item.items()},
            "ConditionExpression": "attribute_not_exists(#k)",
            "ExpressionAttributeNames": {"#k": "key"},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }


def _stored_time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
