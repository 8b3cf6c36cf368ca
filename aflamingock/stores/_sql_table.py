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

from .._records import AuditEntry
from .._states import AuditState
from ..targets._sql_dialect import ExactText, family

_ENTRY = AuditEntry(service="", state=AuditState.STARTED, execution_id="").to_document()
_ISSUE_COLUMNS = (
    "service",
    "issueId",
    "changeId",
    "state",
    "targetSystemId",
    "error",
    "createdAt",
    "status",
    "resolvedAt",
    "resolvedBy",
    "resolution",
    "reason",
)
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
            Boolean() if isinstance(value, bool) else BigInteger(),
            nullable=False,
            autoincrement=False,
            primary_key=column == "sequence",
        )
        if isinstance(value, int)
        else Column(column, _text(column), primary_key=column == "service")
        for column, value in _ENTRY.items()
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
        *(Column(column, _text(column), primary_key=column in keys) for column in _ISSUE_COLUMNS),
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
            return "The user of the process has to write the file of the database, and its folder."
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
