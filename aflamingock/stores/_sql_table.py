"""The tables of the SQL store, and the rights on them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Index,
    MetaData,
    Table,
    UniqueConstraint,
)

from .._records import ENTRY_COLUMNS, ISSUE_COLUMNS
from ..targets._sql_dialect import ExactText, family
from ..targets._sqlite_place import PERMISSIONS

_KEY_LENGTHS = {
    "service": 190,
    "changeId": 190,
    "entryId": 64,
    "issueId": 64,
    "createdAt": 40,
    "status": 40,
}


def _text(name: str) -> ExactText:
    return ExactText(_KEY_LENGTHS.get(name))


def entry_table(name: str, metadata: MetaData) -> Table:
    """Return the table of the log."""
    columns = [
        Column(
            column,
            Boolean() if kind is bool else BigInteger(),
            nullable=False,
            autoincrement=False,
            primary_key=column == "sequence",
        )
        if kind is not str
        else Column(column, _text(column), primary_key=column == "service")
        for column, kind in ENTRY_COLUMNS.items()
    ]
    return Table(
        name,
        metadata,
        *columns,
        UniqueConstraint("entryId"),
        Index(f"{name}_change", "service", "changeId"),
    )


def issue_table(name: str, metadata: MetaData) -> Table:
    """Return the table of the issues."""
    keys = ("service", "issueId")
    return Table(
        name,
        metadata,
        *(Column(column, _text(column), primary_key=column in keys) for column in ISSUE_COLUMNS),
        Index(f"{name}_status", "createdAt", "status"),
    )


def record_table(name: str, metadata: MetaData) -> Table:
    """Return the table of the records."""
    return Table(
        name,
        metadata,
        Column("recordKey", ExactText(255), primary_key=True),
        Column("token", ExactText(64), nullable=False),
        Column("value", ExactText(), nullable=False),
        Column("writtenAt", BigInteger, nullable=False),
    )


def grants(dialect: Dialect, log: Table, records: Table, issues: Table) -> str:
    """Return the statements that give a user the least rights, once the tables are there."""
    quote = dialect.identifier_preparer
    match family(dialect):
        case "sqlite":
            return PERMISSIONS
        case "postgresql":
            user = "aflamingock"
            schema = log.schema
            usage = f"GRANT USAGE ON SCHEMA {quote.quote(schema)} TO {user};\n" if schema else ""
        case _:
            user, usage = "aflamingock@'%'", ""

    return (
        f"{usage}GRANT SELECT, INSERT ON {quote.format_table(log)} TO {user};\n"
        f"GRANT SELECT, INSERT, UPDATE ON {quote.format_table(records)} TO {user};\n"
        f"GRANT SELECT, INSERT, UPDATE ON {quote.format_table(issues)} TO {user};"
    )
