"""What the DynamoDB store keeps, as items in DynamoDB's own types."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .._records import AuditEntry
from .._states import AuditState
from ..exceptions import SequenceConflictError

Item = Mapping[str, Mapping[str, Any]]
"""An item as DynamoDB's own types have it."""

_BATCH = 100
_BATCH_SIZE = 1_000_000  # a transaction takes 4 MB, but aiohttp sends no more than 1 MB gladly
_ENTRY = AuditEntry(service="", state=AuditState.STARTED, execution_id="").to_document()

BRIEF = {f"#n{number}": name for number, name in enumerate(_ENTRY) if name != "errorTrace"}
"""The names of an entry without its error trace, by what stands for them: some are reserved."""


def query(table: str, service: str, *, consistent: bool) -> dict[str, Any]:
    """Return the query of all the items of a service."""
    return {
        "TableName": table,
        "ConsistentRead": consistent,
        "KeyConditionExpression": "#s = :service",
        "ExpressionAttributeNames": {"#s": "service"},
        "ExpressionAttributeValues": {":service": {"S": service}},
    }


def put_of(table: str, entry: AuditEntry) -> dict[str, Any]:
    """Return the put of an entry whose number must be free."""
    document = entry.to_document()
    document["metadata"] = _compact(str(document["metadata"]))
    return {
        "TableName": table,
        "Item": to_item(document),
        "ConditionExpression": "attribute_not_exists(#q)",
        "ExpressionAttributeNames": {"#q": "sequence"},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def _compact(json_text: str) -> str:
    # an item has 400 KB at the most, and an escape takes three times what it stands for
    return json.dumps(json.loads(json_text), ensure_ascii=False, sort_keys=True)


def entry_of(item: Item) -> AuditEntry:
    """Return the entry that an item is."""
    return AuditEntry.from_document(from_item(item))


def conflict(entry: AuditEntry, standing: Item | None) -> SequenceConflictError | None:
    """
    Return the error for an entry that was refused; ``None`` if it stands there itself.

    :param standing: what stands at its number
    """
    if standing and standing["entryId"]["S"] == entry.entry_id:
        return None

    return SequenceConflictError(entry.sequence, state=entry.state)


def first_conflict(
    entries: Sequence[AuditEntry], standing: Mapping[int, Item | None]
) -> SequenceConflictError | None:
    """
    Return the error for a call that was refused; ``None`` if it has been done before.

    :param standing: what stands at the numbers of those that were refused
    """
    for number, item in sorted(standing.items()):
        if error := conflict(entries[number], item):
            return error

    if len(standing) == len(entries):
        return None

    # some of them are ours, but from another call: the caller looks which
    first = entries[min(standing)]
    return SequenceConflictError(first.sequence, state=first.state)


def to_item(document: Mapping[str, str | int | bool | None]) -> dict[str, dict[str, Any]]:
    """Return a document as an item; what is ``None`` is left out."""
    return {name: _to_value(value) for name, value in document.items() if value is not None}


def _to_value(value: str | int | bool) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"BOOL": value}

    return {"N": str(value)} if isinstance(value, int) else {"S": str(value)}


def from_item(item: Item) -> dict[str, Any]:
    """Return an item as the document that it was."""
    return {
        name: int(value["N"]) if "N" in value else next(iter(value.values()))
        for name, value in item.items()
    }


def batches(puts: Sequence[Mapping[str, Any]]) -> Iterator[slice]:
    """Yield the parts of *puts* that fit into one transaction each."""
    start = taken = 0
    for number, put in enumerate(puts):
        needed = len(json.dumps(put))
        if number > start and (number - start == _BATCH or taken + needed > _BATCH_SIZE):
            yield slice(start, number)
            start, taken = number, 0

        taken += needed

    if puts:
        yield slice(start, len(puts))
