"""The tables of DynamoDB that aflamingock keeps: what they are, and how they are made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import anyio

from ._dynamodb import CallError, Trouble, answer
from ._dynamodb_place import Place

_CREATION_TIME = 60.0
_USABLE = ("ACTIVE", "UPDATING")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """
    A table.

    :ivar keys: the names and types of the partition key and, if there is one, of the sort key
    :ivar capacity: the units for reading and for writing, ``None`` to pay per request
    """

    name: str
    keys: Mapping[str, Literal["S", "N"]]
    capacity: tuple[int, int] | None = None

    def definition(self) -> dict[str, Any]:
        """Return the arguments of ``create_table``."""
        kinds = zip(self.keys, ("HASH", "RANGE"), strict=False)
        definition: dict[str, Any] = {
            "TableName": self.name,
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": kind} for name, kind in self.keys.items()
            ],
            "KeySchema": [{"AttributeName": name, "KeyType": kind} for name, kind in kinds],
            "BillingMode": "PROVISIONED" if self.capacity else "PAY_PER_REQUEST",
        }
        if self.capacity:
            read, write = self.capacity
            definition["ProvisionedThroughput"] = {
                "ReadCapacityUnits": read,
                "WriteCapacityUnits": write,
            }

        return definition

    def command(self, place: Place) -> str:
        """Return the command that creates the table."""
        endpoint = f" --endpoint-url {place.endpoint_url}" if place.endpoint_url else ""
        definition = json.dumps(self.definition())
        return (
            f"aws dynamodb create-table --region {place.region_name}{endpoint} "
            f"--cli-input-json '{definition}'"
        )

    def fits(self, description: Mapping[str, Any]) -> bool:
        """Say whether a table that is there has these keys."""
        wanted = self.definition()
        names = set(self.keys)
        types = {
            attribute["AttributeName"]: attribute["AttributeType"]
            for attribute in description.get("AttributeDefinitions", ())
            if attribute["AttributeName"] in names
        }
        return description.get("KeySchema") == wanted["KeySchema"] and types == dict(self.keys)


async def describe(client: Any, table: Table) -> Mapping[str, Any] | None:
    """
    Return the description of a table, ``None`` if it is missing.

    :raises CallError: if it cannot be had
    """
    try:
        answered = await answer(client.describe_table, TableName=table.name)
    except CallError as exc:
        if exc.trouble is Trouble.MISSING:
            return None

        raise

    description: Mapping[str, Any] = answered["Table"]
    return description


async def create(client: Any, tables: Iterable[Table]) -> None:
    """
    Create the tables that are missing, and wait until all can be used.

    Somebody else may do the same at the same time.

    :raises CallError: if that fails; as busy if it takes longer than a minute
    """
    missing = list(tables)
    pause = 0.05
    with anyio.move_on_after(_CREATION_TIME):
        while True:
            missing = [table for table in missing if not await _is_usable(client, table)]
            if not missing:
                return

            await anyio.sleep(pause)
            pause = min(pause * 2, 1.0)

    names = ", ".join(table.name for table in missing)
    late = TimeoutError(f"The tables {names} were still being created after {_CREATION_TIME:g} s.")
    raise CallError(Trouble.BUSY, late)


async def _is_usable(client: Any, table: Table) -> bool:
    description = await describe(client, table)
    if description is not None:
        return description["TableStatus"] in _USABLE

    try:
        answered = await answer(client.create_table, **table.definition())
    except CallError as exc:
        if exc.code == "ResourceInUseException":  # somebody else has just begun to create it
            return False

        raise

    return answered["TableDescription"]["TableStatus"] in _USABLE
