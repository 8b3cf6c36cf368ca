"""The calls of the DynamoDB store, with the errors of an audit store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from ..exceptions import (
    AuditStoreConnectionError,
    AuditStoreError,
    AuditStorePermissionError,
    AuditStoreSchemaError,
    FlamingockError,
    SystemBusyError,
    UnknownOutcomeError,
)
from ..targets._dynamodb import CallError, Trouble, answer
from ..targets._dynamodb_place import Place
from ..targets._dynamodb_table import Table, create, describe
from ._dynamodb_item import Item
from ._dynamodb_schema import check_description, policy

_VERIFY = (
    "Verify that the region and the endpoint are right, that the network lets HTTPS through, and "
    "that the session's credentials are valid."
)
_ADVICE = {
    "NoCredentialsError": "The session found no credentials. Set AWS_PROFILE, or "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where a role gives them."
}


class RefusedError(Exception):
    """
    The condition of a put does not hold.

    :ivar standing: the items that stand in the way, by the numbers of the puts
    """

    def __init__(self, standing: Mapping[int, Item | None]) -> None:
        super().__init__(standing)
        self.standing = standing


class DynamoDBDatabase:
    """
    Some tables, and a client for them.

    :param client: from :func:`aflamingock.targets._dynamodb.watch`
    :param tables: what has to be there; the names stand for the rights as well
    """

    def __init__(self, client: Any, place: Place, tables: Sequence[Table]) -> None:
        self._client = client
        self._place = place
        self._tables = tables

    async def read(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        """Return the answer of a reading call; an empty one where the table is missing."""
        try:
            answered: Mapping[str, Any] = await answer(
                getattr(self._client, operation), **arguments
            )
        except CallError as exc:
            if exc.trouble is Trouble.MISSING:
                return {}

            raise self._error(exc, writes=False) from exc.cause

        return answered

    async def pages(self, **query: Any) -> AsyncIterator[Sequence[Item]]:
        """Yield the pages of a query, each of 1 MB at the most."""
        while True:
            page = await self.read("query", **query)
            yield page.get("Items", ())
            if "LastEvaluatedKey" not in page:
                return

            query["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def put(self, puts: Sequence[Mapping[str, Any]]) -> None:
        """
        Write items in one call, all or none.

        :raises RefusedError: if a condition does not hold
        """
        try:
            if len(puts) == 1:
                await answer(self._client.put_item, **puts[0])
                return

            items = [{"Put": put} for put in puts]
            await answer(self._client.transact_write_items, TransactItems=items)
        except CallError as exc:
            if exc.trouble is Trouble.REFUSED:
                raise RefusedError(dict(exc.refused())) from exc.cause

            raise self._error(exc, writes=True) from exc.cause

    async def missing(self) -> list[str]:
        """
        Return the commands that create the tables that are missing.

        :raises AuditStoreIndexError: if one is there with other keys
        :raises AuditStoreError: if one is replicated
        """
        commands = []
        try:
            for table in self._tables:
                description = await describe(self._client, table)
                if description is None:
                    commands.append(table.command(self._place))
                else:
                    check_description(table, description, self._place)
        except CallError as exc:
            raise self._error(exc, writes=False) from exc.cause

        return commands

    async def create(self) -> None:
        """Create the tables that are missing, and wait for them."""
        try:
            await create(self._client, self._tables)
        except CallError as exc:
            raise self._error(exc, writes=False) from exc.cause

    def _error(self, exc: CallError, *, writes: bool) -> FlamingockError:
        said = str(exc.cause).removesuffix(".")
        match exc.trouble:
            case Trouble.BUSY:
                return SystemBusyError(
                    f"{self._place} is throttled or works on a transaction with the same items "
                    f"({exc.code}), and nothing was done. Raise the capacity if it stays so."
                )
            case Trouble.DENIED:
                return AuditStorePermissionError(
                    f"Insufficient permissions to create collections/tables: {said}. Grant:\n"
                    f"{policy(self._place, self._tables)}"
                )
            case Trouble.MISSING:
                return AuditStoreSchemaError(
                    f"{self._place} has no such table, one of {self._names()}. Call create()."
                )
            case Trouble.IN_DOUBT if writes:
                return UnknownOutcomeError(
                    f"{self._place} has not answered ({exc.code}): a write may have been done."
                )
            case Trouble.UNREACHABLE | Trouble.IN_DOUBT:
                return AuditStoreConnectionError(
                    f"Unable to connect to audit store: {self._place} ({exc.code}). "
                    f"{_ADVICE.get(exc.code, _VERIFY)}"
                )
            case _:
                return AuditStoreError(f"{self._place} has refused a call: {exc.code}: {said}.")

    def _names(self) -> str:
        return ", ".join(table.name for table in self._tables)
