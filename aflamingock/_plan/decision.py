"""What follows from the last entry of a change. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

from .._records import AuditEntry
from .._states import AuditState, Recovery, TxStrategy


class Action(StrEnum):
    """What a run does with a change."""

    APPLY = "APPLY"
    SKIP = "SKIP"
    RESOLVE_MARKER = "RESOLVE_MARKER"
    VERIFY = "VERIFY"
    ROLL_BACK = "ROLL_BACK"
    MANUAL_INTERVENTION = "MANUAL_INTERVENTION"


def next_action(entry: AuditEntry | None, *, has_verify: bool, recovery: Recovery) -> Action:
    """
    Decide what follows from the last entry of a change.

    The tx strategy is the stored one, for it says what happened; the recovery is the one of
    today's code, for it says what the author wants.

    :param entry: the last entry, ``None`` if there is none
    :param has_verify: whether the change can be asked what really happened
    :param recovery: what the author wants where nothing else can tell
    """
    if entry is None:
        return Action.APPLY

    match entry.tx_strategy:
        case TxStrategy.TX_SHARED:
            return _after_shared(entry.state)
        case TxStrategy.TX_SEPARATE_WITH_MARKER:
            return _after_marker(entry.state)
        case TxStrategy.NON_TX | TxStrategy.TX_SEPARATE_NO_MARKER:
            return _after_non_tx(entry.state, has_verify, recovery)
        case _:
            assert_never(entry.tx_strategy)


def _after_shared(state: AuditState) -> Action:
    match state:
        case AuditState.APPLIED | AuditState.MANUAL_MARKED_AS_APPLIED:
            return Action.SKIP
        case AuditState.ROLLED_BACK | AuditState.MANUAL_MARKED_AS_ROLLED_BACK:
            return Action.APPLY
        case AuditState.STARTED | AuditState.FAILED:
            return Action.APPLY
        case AuditState.ROLLBACK_STARTED | AuditState.ROLLBACK_FAILED:
            return Action.SKIP
        case _:
            assert_never(state)


def _after_marker(state: AuditState) -> Action:
    match state:
        case AuditState.APPLIED | AuditState.MANUAL_MARKED_AS_APPLIED:
            return Action.SKIP
        case AuditState.ROLLED_BACK | AuditState.MANUAL_MARKED_AS_ROLLED_BACK:
            return Action.APPLY
        case AuditState.STARTED | AuditState.ROLLBACK_STARTED:
            return Action.RESOLVE_MARKER
        case AuditState.FAILED:
            return Action.APPLY
        case AuditState.ROLLBACK_FAILED:
            return Action.SKIP
        case _:
            assert_never(state)


def _after_non_tx(state: AuditState, has_verify: bool, recovery: Recovery) -> Action:
    match state:
        case AuditState.APPLIED | AuditState.MANUAL_MARKED_AS_APPLIED:
            return Action.SKIP
        case AuditState.ROLLED_BACK | AuditState.MANUAL_MARKED_AS_ROLLED_BACK:
            return Action.APPLY
        case (
            AuditState.STARTED
            | AuditState.FAILED
            | AuditState.ROLLBACK_STARTED
            | AuditState.ROLLBACK_FAILED
        ):
            if has_verify:
                return Action.VERIFY

            return after_doubt(state, recovery)
        case _:
            assert_never(state)


def after_doubt(state: AuditState, recovery: Recovery) -> Action:
    """
    Decide on a change in doubt that ``verify`` cannot tell more of.

    :param state: where its last entry left it
    """
    match recovery:
        case Recovery.MANUAL_INTERVENTION:
            return Action.MANUAL_INTERVENTION
        case Recovery.ALWAYS_RETRY:
            return Action.ROLL_BACK if state is AuditState.ROLLBACK_STARTED else Action.APPLY
        case _:
            assert_never(recovery)


def is_applied(entry: AuditEntry | None) -> bool:
    """Say whether the effect of a change stands, by its last entry, for sure."""
    if entry is None:
        return False

    action = next_action(entry, has_verify=False, recovery=Recovery.MANUAL_INTERVENTION)
    return action is Action.SKIP


def is_drift(stored: str | None, current: str | None) -> bool:
    """
    Say whether two checksums tell of an edit.

    Without a sum, or with the sums of two versions of the algorithm, nothing can be told.
    """
    if stored is None or current is None:
        return False

    return stored != current and stored.split(":")[0] == current.split(":")[0]
