"""What ended a command: its exit code, and how it is told."""

from __future__ import annotations

from typing import Any

from .._payload import redacted
from ..exceptions import (
    AuditStoreError,
    ConfigurationError,
    FlamingockError,
    HistoryError,
    LockError,
    ManualInterventionError,
    PendingChangesError,
    SystemBusyError,
)

FAILED = 1
USAGE = 2
PENDING = 3
INTERRUPTED = 130

_EXIT_CODES: tuple[tuple[type[FlamingockError], int], ...] = (
    (ConfigurationError, USAGE),
    (PendingChangesError, PENDING),
    (ManualInterventionError, 4),
    (LockError, 5),
    (AuditStoreError, 6),
    (SystemBusyError, 6),
    (HistoryError, 7),
)


class Interrupted(Exception):
    """The command was ended by Ctrl-C or SIGTERM."""

    def __init__(self) -> None:
        super().__init__("Interrupted.")


def exit_code(exc: BaseException) -> int:
    """Return the exit code of a command that *exc* has ended."""
    if isinstance(exc, Interrupted):
        return INTERRUPTED

    return next((code for kind, code in _EXIT_CODES if isinstance(exc, kind)), FAILED)


def sentence(exc: BaseException) -> str:
    """Return what a person is told of *exc*."""
    if isinstance(exc, FlamingockError | Interrupted):
        return str(exc)

    return f"Unexpected {type(exc).__name__}: {redacted(str(exc))}"


def document(exc: BaseException) -> dict[str, Any]:
    """Return *exc* as JSON values, with the report, the plan and the issues that it carries."""
    told: dict[str, Any] = {
        "type": type(exc).__name__,
        "message": sentence(exc),
        "exitCode": exit_code(exc),
    }
    if isinstance(exc, FlamingockError) and exc.report is not None:
        told["report"] = exc.report.to_dict()

    if isinstance(exc, PendingChangesError):
        told["plan"] = exc.plan.to_dict()

    if isinstance(exc, ManualInterventionError):
        told["issues"] = [issue.to_document() for issue in exc.issues]

    return {"error": told}
