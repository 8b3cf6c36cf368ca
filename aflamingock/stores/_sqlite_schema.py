"""The tables of the SQLite store: what they are, and whether they are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .._records import ENTRY_COLUMNS, ISSUE_COLUMNS
from ..exceptions import AuditStoreIndexError
from ..targets._sqlite_place import in_file
from ._refusal import misfit
from ._sqlite import SQLiteDatabase


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """
    A table and its indexes.

    :ivar columns: with their types
    :ivar keys: the columns of the primary key
    :ivar constraints: what else it is created with
    :ivar indexes: the columns of each index
    """

    name: str
    columns: Mapping[str, str]
    keys: Sequence[str]
    constraints: Sequence[str] = ()
    indexes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def statements(self) -> dict[str, str]:
        """Return what creates the table and its indexes, by their names."""
        parts = [f"{name} {kind}" for name, kind in self.columns.items()]
        parts += [f"PRIMARY KEY ({', '.join(self.keys)})", *self.constraints]
        created = {self.name: f'CREATE TABLE IF NOT EXISTS "{self.name}" ({", ".join(parts)})'}
        return created | {
            name: f'CREATE INDEX IF NOT EXISTS "{name}" ON "{self.name}" ({", ".join(columns)})'
            for name, columns in self.indexes.items()
        }


def log_table(name: str) -> Table:
    """Return the table of the log."""
    types = {column: "TEXT" if kind is str else "INTEGER" for column, kind in ENTRY_COLUMNS.items()}
    return Table(
        name=name,
        columns=types,
        keys=("service", "sequence"),
        constraints=("UNIQUE (entryId)",),
        indexes={f"{name}_change": ("service", "changeId")},
    )


def issue_table(name: str) -> Table:
    """Return the table of the issues."""
    return Table(
        name=name,
        columns=dict.fromkeys(ISSUE_COLUMNS, "TEXT"),
        keys=("service", "issueId"),
        indexes={f"{name}_status": ("createdAt", "status")},
    )


def record_table(name: str) -> Table:
    """Return the table of the records."""
    types = {"recordKey": "TEXT", "token": "TEXT", "value": "TEXT", "writtenAt": "INTEGER"}
    return Table(name=name, columns=types, keys=("recordKey",))


class Schema:
    """The tables in a file."""

    def __init__(self, database: SQLiteDatabase, *tables: Table) -> None:
        self._database = database
        self._tables = tables

    async def create(self) -> None:
        """
        Create the file, the tables and the indexes that are missing.

        :raises AuditStoreIndexError: if something else stands in the place of one
        """
        if await self.missing():
            statements = (table.statements().values() for table in self._tables)
            await self._database.create([one for some in statements for one in some])

    async def missing(self) -> list[str]:
        """
        Return the statements that create what is missing.

        :raises AuditStoreIndexError: if something else stands in the place of one
        """
        return [
            in_file(statement, self._database.path)
            for table in self._tables
            for statement in await self._missing_of(table)
        ]

    async def _missing_of(self, table: Table) -> list[str]:
        statements = table.statements()
        columns = await self._columns("table", table.name)
        if not columns:
            return list(statements.values())

        keys = sorted((rank, name) for name, rank in columns.items() if rank)
        if [name for _, name in keys] != list(table.keys) or table.columns.keys() - columns.keys():
            raise self._misfit(f'table "{table.name}"', statements[table.name])

        missing = []
        for name, wanted in table.indexes.items():
            found = list(await self._columns("index", name))
            if found and found != list(wanted):
                raise self._misfit(f'index "{name}"', statements[name])

            if not found:
                missing.append(statements[name])

        return missing

    async def _columns(self, kind: str, name: str) -> dict[str, int]:
        rank, order = ("pk", "cid") if kind == "table" else ("0", "seqno")
        rows = await self._database.rows(
            f"SELECT name, {rank} FROM pragma_{kind}_info(?) ORDER BY {order}", (name,)
        )
        return dict(tuple(row) for row in rows)

    def _misfit(self, what: str, statement: str) -> AuditStoreIndexError:
        path = self._database.path
        return misfit(what, path, in_file(statement, path))
