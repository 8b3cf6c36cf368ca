"""The commands of an operator: the audit log, the issues and the lock."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from .._flamingock import Flamingock
from .._host import user_name
from .._records import AuditEntry, Issue
from .._states import Resolution
from ..exceptions import ConfigurationError
from ._command import Session, command
from ._errors import PENDING
from ._moment import moment
from ._output import Answer, cell
from ._report import AT_WORK, entry_table, issue_table

store = typer.Typer()
audit = typer.Typer(help="Read the audit log, and answer what is in doubt.", no_args_is_help=True)
issue = typer.Typer(help="The changes that need a person.", no_args_is_help=True)
lock = typer.Typer(help="The right to work, and who has it.", no_args_is_help=True)

Change = Annotated[str, typer.Option("-c", "--change", metavar="ID", help="The id of the change.")]
Reason = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Why; it is kept in the audit log.")
]
By = Annotated[str | None, typer.Option(metavar="NAME", help="Who says so (else: you).")]

_GUIDANCE = """\
What to do:
1. Look into the target system: did the change happen, in whole, in part, or not at all?
2. If in part: complete it, or take it back, by hand.
3. If it is there now, say so:      aflamingock audit fix -c {id} -r APPLIED --reason "..."
   If it is not, say so:            aflamingock audit fix -c {id} -r ROLLED_BACK --reason "..."
4. Apply again: what is applied is skipped, what was rolled back is applied anew.
A verify in the change's class, or recovery=Recovery.ALWAYS_RETRY where it may be repeated, spares
the question next time."""


@command(audit, "list", needs="store")
async def list_entries(
    session: Session,
    history: Annotated[
        bool, typer.Option("--history", help="Every entry, not only each change's last one.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help='Only from then: "2026-11-22", "2 hours ago".'),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the last so many.")
    ] = None,
    extended: Annotated[bool, typer.Option("--extended", help="Show more columns.")] = False,
) -> Answer:
    """Show the last state of each change, or the whole log."""
    start = moment(since) if since else None
    async with session.open() as flamingock:
        log = flamingock.audit.entries()
        found = await (_history(log, start, limit) if history else _last_states(log))

    if not history:
        found = [entry for entry in found if start is None or entry.created_at >= start]
        found = found[-limit:] if limit else found

    return Answer(
        document={"service": flamingock.service, "entries": [_document(entry) for entry in found]},
        parts=[entry_table(found, service=flamingock.service, extended=extended)],
    )


@command(audit, "fix", needs="store")
async def fix(
    session: Session,
    change: Change,
    resolution: Annotated[
        Resolution,
        typer.Option("-r", "--resolution", case_sensitive=False, help="What really became of it."),
    ],
    reason: Reason = None,
    by: By = None,
) -> Answer:
    """Say what became of a change in doubt. It is kept, with who said so and why."""
    async with session.open() as flamingock:
        entry = await flamingock.audit.resolve(
            change, resolution, reason=reason, by=by or user_name()
        )

    told = f"{change}: {entry.state} (entry {entry.sequence})."
    return Answer(document={"entry": _document(entry)}, parts=[told])


@command(audit, "verify-schema", needs="store")
async def verify_schema(session: Session) -> Answer:
    """Print the commands that create what is missing. Exit with 0 if nothing is, else with 3."""
    async with session.open() as flamingock:
        missing = await flamingock.audit_store.verify_schema()

    document = {"complete": not missing, "missing": missing}
    if not missing:
        return Answer(document=document, parts=["Nothing is missing."])

    told = f"{_counted(missing)}. Run the commands, or let an administrator do so."
    return Answer(document=document, parts=missing, warnings=[told], code=PENDING)


@command(audit, "permissions", needs="store")
async def permissions(session: Session) -> Answer:
    """Print the least rights that the audit store needs. It is not connected to."""
    async with session.flamingock() as flamingock:
        told = flamingock.audit_store.permissions()

    return Answer(document={"permissions": told}, parts=[told])


@command(issue, "list", needs="store")
async def list_issues(session: Session) -> Answer:
    """Show the changes that need a person."""
    async with session.open() as flamingock:
        issues = await flamingock.audit.issues()
        warnings = [AT_WORK] if issues and (await flamingock.lock.status()).held else []

    documents = [found.to_document() for found in issues]
    return Answer(document={"issues": documents}, parts=[issue_table(issues)], warnings=warnings)


@command(issue, "get", needs="store")
async def get_issue(
    session: Session,
    change: Annotated[
        str | None,
        typer.Option("-c", "--change", metavar="ID", help="Of this change; else the oldest."),
    ] = None,
    guidance: Annotated[bool, typer.Option("--guidance", help="Say what to do.")] = False,
) -> Answer:
    """Show an issue with its whole error."""
    async with session.open() as flamingock:
        issues = await flamingock.audit.issues()
        warnings = [AT_WORK] if issues and (await flamingock.lock.status()).held else []

    found = next((one for one in issues if change in (None, one.change_id)), None)
    if found is None and change is not None:
        raise ConfigurationError(f"Change {change!r} is no issue. See 'aflamingock issue list'.")

    if found is None:
        return Answer(document={"issue": None}, parts=["No change needs a person."])

    advice = _GUIDANCE.format(id=found.change_id)
    document: dict[str, Any] = {"issue": found.to_document()}
    return Answer(
        document=document | ({"guidance": advice} if guidance else {}),
        parts=[*_issue_lines(found), *([advice] if guidance else [])],
        warnings=warnings,
    )


@command(lock, "status", needs="store")
async def lock_status(session: Session) -> Answer:
    """Show who holds the lease."""
    async with session.open() as flamingock:
        status = await flamingock.lock.status()

    document = status.to_dict()
    lines = [f"{name}: {cell(value)}" for name, value in document.items() if value is not None]
    return Answer(document=document, parts=lines)


@command(lock, "release", needs="store")
async def lock_release(
    session: Session,
    force: Annotated[bool, typer.Option("--force", help="Yes, take it from its holder.")] = False,
    reason: Reason = None,
    by: By = None,
) -> Answer:
    """Take the lease from its holder. What that one still tries to write is refused."""
    if not force:
        raise ConfigurationError(
            "A lease whose holder has died ends by itself. To take it from its holder, who may "
            "be at work, give --force."
        )

    async with session.open() as flamingock:
        await flamingock.lock.release(force=True, reason=reason, by=by or user_name())
        status = await flamingock.lock.status()

    return Answer(document=status.to_dict(), parts=[f"The lease is {status.state}."])


@command(store, "test-connection", needs="store")
async def try_connection(
    session: Session,
    audit_store: Annotated[
        bool, typer.Option("--audit-store", help="That of the audit store; there is no other.")
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Write a record of its own as well.")
    ] = False,
) -> Answer:
    """Read the audit store once; say what is wrong if that fails."""
    async with session.open() as flamingock:
        await flamingock.audit_store.test_connection()
        seconds = await flamingock.audit_store.write_health_check() if write else None
        warnings = (
            []
            if await flamingock.audit_store.last(flamingock.service, 1)
            else [await _emptiness(flamingock)]
        )

    told = "The audit store can be read." if seconds is None else "It can be read and written."
    return Answer(
        document={"audit-store": "Available", "writeSeconds": seconds, "warnings": warnings},
        parts=[told],
        warnings=warnings,
    )


async def _emptiness(flamingock: Flamingock) -> str:
    # A mistyped path, database or service is found, too: it is empty.
    missing = await flamingock.audit_store.verify_schema()
    told = f"There is no entry of the service {flamingock.service!r}"
    if not missing:
        return f"{told}."

    return f"{told}, and {_counted(missing)}: see 'aflamingock audit verify-schema'."


def _counted(missing: Sequence[str]) -> str:
    if len(missing) == 1:
        return "1 table, collection or index is missing"

    return f"{len(missing)} tables, collections or indexes are missing"


async def _history(
    log: AsyncIterable[AuditEntry], start: datetime | None, limit: int | None
) -> list[AuditEntry]:
    found: deque[AuditEntry] = deque(maxlen=limit)
    async for entry in log:
        if start is None or entry.created_at >= start:
            found.append(entry)

    return list(found)


async def _last_states(log: AsyncIterable[AuditEntry]) -> list[AuditEntry]:
    last: dict[str, AuditEntry] = {}
    async for entry in log:
        if entry.change_id is not None:
            last.pop(entry.change_id, None)
            last[entry.change_id] = entry

    return list(last.values())


def _document(entry: AuditEntry) -> dict[str, Any]:
    return {**entry.to_document(), "metadata": dict(entry.metadata)}


def _issue_lines(found: Issue) -> list[str]:
    document = found.to_document()
    error = document.pop("error")
    lines = [f"{name}: {value}" for name, value in document.items() if value is not None]
    return [*lines, *(["error:", error] if error else [])]
