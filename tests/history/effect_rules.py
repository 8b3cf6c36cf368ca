"""What must hold of what changes did, against what the log says of it: I4 to I7."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator

from aflamingock import AuditEntry, AuditState, TxStrategy
from aflamingock._plan.decision import is_applied

from .events import Appended, Called, Died, History

Key = tuple[str, int, int]


def committed_once(history: History) -> Iterator[str]:
    """I4: what a transaction does stands once, if and only if the log says so."""
    standing: Counter[str] = Counter()
    attempts: dict[str, int] = {}
    for commit in history.commits:
        standing[commit.change_id] += 1 if commit.method == "execute" else -1
        attempts[commit.change_id] = commit.attempt
        if standing[commit.change_id] not in (0, 1):
            count = standing[commit.change_id]
            yield f"I4: the effect of {commit.change_id!r} stands {count} times"

    if not history.is_over:
        return

    for id, entry in _last(history).items():
        if entry.tx_strategy is TxStrategy.NON_TX:
            continue

        if is_applied(entry) != (standing[id] == 1):
            stands = f"its effect stands {standing[id]} times"
            yield f"I4: the log ends with {entry.state} for {id!r}, and {stands}"
        elif is_applied(entry) and attempts[id] != entry.attempt:
            yield f"I4: attempt {attempts[id]} of {id!r} was committed, not {entry.attempt}"


def executed_once(history: History) -> Iterator[str]:
    """I5: an attempt is executed once, and no attempt while another one is under way."""
    counts = Counter(_key(call) for call in _calls(history) if _began(call, "execute"))
    for (id, attempt, _), count in counts.items():
        if count > 1:
            yield f"I5: attempt {attempt} of {id!r} was executed {count} times"

    yield from _not_together(history)


def _not_together(history: History) -> Iterator[str]:
    deaths = {event.runner: event.time for event in history.events if isinstance(event, Died)}
    strategies = {id: entry.tx_strategy for id, entry in _last(history).items()}
    under_way: dict[str, dict[str, float]] = defaultdict(dict)
    for call in _calls(history):
        others = under_way[call.change_id]
        if call.step != "began":
            others.pop(call.runner, None)
            continue

        for runner in others:
            lives = deaths.get(runner, math.inf) > call.time
            matters = strategies.get(call.change_id) is TxStrategy.NON_TX
            if runner != call.runner and lives and matters and history.pauses_are_bounded:
                yield (
                    f"I5: {call.runner} began to {call.method} {call.change_id!r} while "
                    f"{runner} was at it"
                )

        others[call.runner] = call.time


def started_before(history: History) -> Iterator[str]:
    """I6: nothing is executed without a durable STARTED of the same attempt before it."""
    opened: dict[tuple[str, Key], list[AuditEntry]] = defaultdict(list)
    for entry in history.entries:
        if entry.state in (AuditState.STARTED, AuditState.ROLLBACK_STARTED):
            key = (str(entry.change_id), entry.attempt, entry.epoch)
            opened[entry.state, key].append(entry)

    durable = {
        event.entry_id: event.time for event in history.events if isinstance(event, Appended)
    }
    for call in _calls(history):
        if call.step != "began":
            continue

        state = AuditState.STARTED if call.method == "execute" else AuditState.ROLLBACK_STARTED
        entries = opened[state, _key(call)]
        told = f"I6: {call.runner} began to {call.method} attempt {call.attempt}"
        if not entries:
            yield f"{told} of {call.change_id!r} without a {state} of epoch {call.epoch}"
        elif min(durable.get(entry.entry_id, -math.inf) for entry in entries) > call.time:
            yield f"{told} of {call.change_id!r} before its {state} was acknowledged"


def as_the_log_says(history: History) -> Iterator[str]:
    """I4, I7: what was done outside of transactions is what the log says of it."""
    done: dict[str, list[Called]] = defaultdict(list)
    for call in _calls(history):
        done[call.change_id].append(call)

    for id, entry in _last(history).items():
        if entry.tx_strategy is not TxStrategy.NON_TX or not history.events:
            continue

        calls = [call for call in done[id] if history.pauses_are_bounded or _is_of(call, entry)]
        told = f"the log ends with {entry.state} for {id!r}"
        last = calls[-1] if calls else None
        if entry.state is AuditState.APPLIED and not _ended(last, "execute", entry):
            yield f"I4: {told}, and the last of it was {_told(last)}"
        elif entry.state is AuditState.ROLLED_BACK and any(_is_of(call, entry) for call in calls):
            if _ended(last, "rollback", entry):
                continue

            yield f"I7: {told}, and the last of it was {_told(last)}"


def _is_of(call: Called, entry: AuditEntry) -> bool:
    return call.attempt == entry.attempt


def _ended(call: Called | None, method: str, entry: AuditEntry) -> bool:
    return (
        call is not None
        and (call.method, call.attempt) == (method, entry.attempt)
        and call.step == "ended"
    )


def _told(call: Called | None) -> str:
    return f"{call.method} {call.step}, attempt {call.attempt}" if call else "nothing"


def _calls(history: History) -> list[Called]:
    calls = [event for event in history.events if isinstance(event, Called)]
    return sorted(calls, key=lambda call: call.time)


def _began(call: Called, method: str) -> bool:
    return call.step == "began" and call.method == method


def _key(call: Called) -> Key:
    return (call.change_id, call.attempt, call.epoch)


def _last(history: History) -> dict[str, AuditEntry]:
    return {entry.change_id: entry for entry in history.entries if entry.change_id is not None}
