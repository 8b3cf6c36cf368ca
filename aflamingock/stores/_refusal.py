"""What more than one store refuses, in the same words."""

from __future__ import annotations

from ..exceptions import AuditStoreError, AuditStoreIndexError, AuditStoreSchemaError
from ..targets._sqlite_place import network_file_system


def misfit(what: str, place: str, command: str) -> AuditStoreIndexError:
    """
    Return the error for something that stands in the place of what a store needs.

    :param what: as ``table "flamingockLock"``
    :param command: creates the right one
    """
    return AuditStoreIndexError(
        f"Failed to create audit store indexes: the {what} in {place} is there already, and is "
        "another one: its kind, columns or keys differ. Give the repository another name, or move "
        f"what is there out of the way. The right one is created by:\n{command}"
    )


def missing_table(place: str) -> AuditStoreSchemaError:
    """Return the error for a write before the creation."""
    return AuditStoreSchemaError(
        f"The audit store {place} has no such table, and nothing was written. Call create() before "
        "the first write."
    )


async def refuse_network_file_system(path: str) -> None:
    """
    Refuse a place where SQLite's locks cannot be relied on.

    :raises AuditStoreError: if the file lies on a network file system, as far as this is known
    """
    if kind := await network_file_system(path):
        raise AuditStoreError(
            f"{path} lies on a network file system ({kind}), where SQLite cannot lock files "
            "reliably. Use a local disk, or the audit store of a database server."
        )
