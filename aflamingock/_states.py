"""The words of the log: states, strategies, outcomes."""

from __future__ import annotations

from enum import StrEnum


class AuditState(StrEnum):
    """Where a change stands after an audit entry."""

    STARTED = "STARTED"
    APPLIED = "APPLIED"
    FAILED = "FAILED"
    ROLLBACK_STARTED = "ROLLBACK_STARTED"
    ROLLED_BACK = "ROLLED_BACK"
    ROLLBACK_FAILED = "ROLLBACK_FAILED"
    MANUAL_MARKED_AS_APPLIED = "MANUAL_MARKED_AS_APPLIED"
    MANUAL_MARKED_AS_ROLLED_BACK = "MANUAL_MARKED_AS_ROLLED_BACK"


class AuditType(StrEnum):
    """What an audit entry is about."""

    EXECUTION = "EXECUTION"
    CHECKPOINT = "CHECKPOINT"
    LOCK_RELEASED = "LOCK_RELEASED"


class TxStrategy(StrEnum):
    """How a change and its entry are tied together."""

    NON_TX = "NON_TX"
    TX_SHARED = "TX_SHARED"
    TX_SEPARATE_WITH_MARKER = "TX_SEPARATE_WITH_MARKER"
    TX_SEPARATE_NO_MARKER = "TX_SEPARATE_NO_MARKER"


class Recovery(StrEnum):
    """What to do with a change that was left unfinished and that no database can judge."""

    MANUAL_INTERVENTION = "MANUAL_INTERVENTION"
    ALWAYS_RETRY = "ALWAYS_RETRY"


class Verification(StrEnum):
    """What a change's ``verify`` found in the target system."""

    APPLIED = "APPLIED"
    NOT_APPLIED = "NOT_APPLIED"
    PARTIAL = "PARTIAL"


class Resolution(StrEnum):
    """What a person says of a change that was in doubt."""

    APPLIED = "APPLIED"
    ROLLED_BACK = "ROLLED_BACK"


class IssueStatus(StrEnum):
    """Whether an issue still needs a person."""

    OPEN = "OPEN"
    RESOLVED = "RESOLVED"


class MarkerOutcome(StrEnum):
    """What a marker says of the transaction that it stands for."""

    COMMITTED = "COMMITTED"
    ABORTED = "ABORTED"
