"""Which tables and indexes of the SQL store are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, Dialect, Index, Inspector, MetaData, Table, inspect
from sqlalchemy.schema import CreateIndex, CreateTable

from ..targets._sqlite_place import in_file
from ._refusal import misfit

Part = CreateTable | CreateIndex


def command(part: Part, dialect: Dialect, place: str) -> str:
    """
    Return the statement that creates a part.

    :param place: of a SQLite database, its file
    """
    statement = " ".join(str(part.compile(dialect=dialect)).split())
    return in_file(statement, place) if dialect.name == "sqlite" else f"{statement};"


def find_missing(connection: Connection, metadata: MetaData, place: str) -> Sequence[Part]:
    """
    Return the tables and indexes that are not there, in the order to create them.

    :raises AuditStoreIndexError: if something else stands in the place of one
    """
    inspector = inspect(connection)
    parts: list[Part] = []
    for table in metadata.sorted_tables:
        indexes: dict[str | None, list[str | None]] = {}
        if inspector.has_table(table.name, schema=table.schema):
            found = inspector.get_indexes(table.name, schema=table.schema)
            indexes = {index["name"]: index["column_names"] for index in found}
            if not _fits(inspector, table):
                raise stranger(CreateTable(table), connection.dialect, place)
        else:
            parts.append(CreateTable(table))

        for index in _indexes_of(table):
            columns = indexes.get(index.name)
            if columns is None:
                parts.append(CreateIndex(index))
            elif columns != [column.name for column in index.columns]:
                raise stranger(CreateIndex(index), connection.dialect, place)

    return parts


def stranger(part: Part, dialect: Dialect, place: str) -> Exception:
    """Return the error for something else that stands in the place of a part."""
    kind = "table" if isinstance(part, CreateTable) else "index"
    return misfit(f'{kind} "{part.element.name}"', place, command(part, dialect, place))


def _fits(inspector: Inspector, table: Table) -> bool:
    key = inspector.get_pk_constraint(table.name, schema=table.schema)["constrained_columns"]
    columns = inspector.get_columns(table.name, schema=table.schema)
    wanted = {column.name for column in table.columns}
    return key == list(table.primary_key.columns.keys()) and wanted <= {
        column["name"] for column in columns
    }


def _indexes_of(table: Table) -> Iterator[Index]:
    yield from sorted(table.indexes, key=lambda index: str(index.name))
