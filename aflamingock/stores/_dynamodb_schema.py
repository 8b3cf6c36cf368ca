"""The tables of the DynamoDB store: names, keys, capacity, rights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..exceptions import AuditStoreError, ConfigurationError
from ..targets._dynamodb_place import Place, check_names
from ..targets._dynamodb_table import Table
from ._refusal import misfit

_CAPACITY = 5


def tables_of(
    audit: str, lock: str, issue: str, *, capacity: tuple[int, int] | None
) -> tuple[Table, Table, Table]:
    """
    Return the tables of the log, the records and the issues.

    :param capacity: of each table, ``None`` to pay per request
    :raises ConfigurationError: if a name is no name, or two are the same
    """
    check_names(audit, lock, issue)
    return (
        Table(name=audit, keys={"service": "S", "sequence": "N"}, capacity=capacity),
        Table(name=lock, keys={"recordKey": "S"}, capacity=capacity),
        Table(name=issue, keys={"service": "S", "issueId": "S"}, capacity=capacity),
    )


def capacity_of(billing_mode: str, read: int | None, write: int | None) -> tuple[int, int] | None:
    """
    Return the units of each table, ``None`` to pay per request.

    :raises ConfigurationError: if the arguments contradict each other
    """
    if billing_mode == "PAY_PER_REQUEST":
        if read is None and write is None:
            return None

        raise ConfigurationError(
            "read_capacity_units and write_capacity_units belong to billing_mode='PROVISIONED'. "
            "Leave them out, or change the mode."
        )

    if billing_mode != "PROVISIONED":
        raise ConfigurationError(
            f"billing_mode={billing_mode!r}: give 'PROVISIONED' or 'PAY_PER_REQUEST'."
        )

    read, write = (_CAPACITY if units is None else units for units in (read, write))
    if read < 1 or write < 1:
        raise ConfigurationError(f"{min(read, write)!r} capacity units: give 1 or more.")

    return read, write


def check_description(table: Table, description: Mapping[str, Any], place: Place) -> None:
    """
    Check that a table which is there can be used.

    :raises AuditStoreIndexError: if it has other keys
    :raises AuditStoreError: if it is replicated
    """
    if not table.fits(description):
        raise misfit(f'table "{table.name}"', str(place), table.command(place))

    if description.get("Replicas"):
        raise AuditStoreError(
            f"The table {table.name} is a global table: its conditions hold in one region only, "
            "so that two runners could both be the first. Use a table without replicas."
        )


def policy(place: Place, tables: Sequence[Table]) -> str:
    """Return the least rights as a policy of IAM."""
    audit, lock, issue = (
        f"arn:aws:dynamodb:{place.region_name}:*:table/{table.name}" for table in tables
    )
    rights = {
        "AppendAndReadTheLog": (["dynamodb:PutItem", "dynamodb:Query"], [audit, issue]),
        "HoldTheLease": (["dynamodb:GetItem", "dynamodb:PutItem"], [lock]),
        "CreateTables": (["dynamodb:CreateTable", "dynamodb:DescribeTable"], [audit, lock, issue]),
    }
    statements = [
        {"Sid": name, "Effect": "Allow", "Action": actions, "Resource": resources}
        for name, (actions, resources) in rights.items()
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2)
