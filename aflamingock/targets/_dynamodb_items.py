"""What a change writes to DynamoDB in a transaction, collected to be sent as one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..exceptions import FlamingockError
from ._dynamodb import CallError, Trouble, answer

Guard = Callable[[Mapping[str, Any] | None], Exception | None]
"""Given the item that stands in the way of a put, returns what to raise; ``None`` if it is ours."""

LIMIT = 100
"""How many items a transaction of DynamoDB takes."""


class TransactWriteItems:
    """
    The writes of a transaction, sent as one ``transact_write_items``: all are done, or none.

    Each takes what the driver's client takes, in DynamoDB's own types. Within the transaction of
    a change they are sent at its end, together with the audit entry or the marker, so that 99 are
    left for the change. Elsewhere the change sends them itself.

    ::

        async def execute(self, items: TransactWriteItems) -> None:
            items.put(TableName="users", Item={"id": {"S": "1"}, "status": {"S": "active"}})
    """

    def __init__(self, client: Any, *, in_transaction: bool) -> None:
        self._client = client
        self._in_transaction = in_transaction
        self._items: list[dict[str, Any]] = []
        self._guards: dict[int, Guard] = {}
        self._is_over = False

    def put(self, **put: Any) -> None:
        """Put an item; takes ``TableName``, ``Item``, ``ConditionExpression`` and the like."""
        self._add({"Put": put})

    def update(self, **update: Any) -> None:
        """Update an item; takes ``TableName``, ``Key``, ``UpdateExpression`` and the like."""
        self._add({"Update": update})

    def delete(self, **delete: Any) -> None:
        """Delete an item; takes ``TableName``, ``Key``, ``ConditionExpression`` and the like."""
        self._add({"Delete": delete})

    def condition_check(self, **check: Any) -> None:
        """Write only if an item is so; takes ``TableName``, ``Key``, ``ConditionExpression``."""
        self._add({"ConditionCheck": check})

    async def send(self) -> None:
        """
        Write what was collected, and begin anew; not within a transaction.

        :raises FlamingockError: within a transaction of aflamingock, which sends them itself
        """
        if self._in_transaction:
            raise FlamingockError(
                "aflamingock sends the items itself, at the end of the change; give the change "
                "transactional=False if it must send them on its own."
            )

        items, self._items = self._items, []
        await self._client.transact_write_items(TransactItems=items)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._items)

    def add_last(self, put: Mapping[str, Any], guard: Guard) -> None:
        """
        Add what ties the transaction to the log; for stores and target systems.

        :param put: refused if the item is there already
        :param guard: says what to raise then
        """
        self._check(LIMIT)
        self._guards[len(self._items)] = guard
        self._items.append({"Put": dict(put)})

    def close(self) -> None:
        """Refuse further items."""
        self._is_over = True

    async def commit(self, token: str) -> None:
        """
        Send the items of a transaction.

        :param token: the same at each try, so that a try whose answer was lost is recognised
        :raises CallError: if that fails, but for what a guard is for
        """
        try:
            await answer(
                self._client.transact_write_items,
                TransactItems=self._items,
                ClientRequestToken=token,
            )
        except CallError as exc:
            if exc.trouble is not Trouble.REFUSED or not self._stands(exc):
                self._explain(exc)
                raise

    def _add(self, item: dict[str, Any]) -> None:
        self._check(LIMIT - 1 if self._in_transaction else LIMIT)
        self._items.append(item)

    def _check(self, limit: int) -> None:
        if self._is_over:
            raise FlamingockError("The transaction is over: these items would never be written.")

        if len(self._items) >= limit:
            raise FlamingockError(
                f"A transaction of DynamoDB takes {LIMIT} items, and one of them ties a change to "
                f"the log: {limit} are collected already. Split the change, or give it "
                "transactional=False and let it write in batches."
            )

    def _stands(self, exc: CallError) -> bool:
        """Say whether an earlier try was done; raise what the guards say if another was first."""
        refused = [
            (self._guards[number], item) for number, item in exc.refused() if number in self._guards
        ]
        for guard, item in refused:
            error = guard(item)
            if error is not None:
                raise error from exc.cause

        return bool(refused)

    def _explain(self, exc: CallError) -> None:
        for number, _ in exc.refused():
            [(kind, arguments)] = self._items[number].items()
            exc.cause.add_note(
                f"Item {number + 1} of the transaction, {kind} in table "
                f"{arguments.get('TableName')}, was refused by its condition."
            )
