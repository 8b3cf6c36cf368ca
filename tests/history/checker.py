"""
The invariants I1 to I12 of aflamingock, on the history of a service.

I1 the log is one line, without gaps, and epochs never fall; I2 an epoch is granted once; I3 no two
runners believe at once that they hold the lease; I4 in transactions the effect stands once, if and
only if the log says APPLIED; I5 without them nothing is executed twice unless a person, a rollback
or ALWAYS_RETRY allows it, and never at once; I6 STARTED is durable before anything is executed; I7
a rollback is done when the log says so, and begins under the lease; I8 what was acknowledged stays;
I9 no lock is stuck; I10 changes keep their order; I11 every outcome is one that was foreseen; I12
no secret is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from . import effect_rules, lease_rules, log_rules
from .events import Ended, History


def violations(history: History) -> list[str]:
    """Return what contradicts the invariants, each as a sentence that begins with its number."""
    return [found for rule in _RULES for found in rule(history)]


def _foreseen(history: History) -> Iterator[str]:
    """I11: a run ends with one of aflamingock's own exceptions, or with none."""
    for event in history.events:
        if isinstance(event, Ended) and not event.is_public:
            yield f"I11: {event.runner} was ended by {event.error}: {event.text[:300]}"


def _nothing_told(history: History) -> Iterator[str]:
    """I12: a secret stands neither in the log nor in any other text."""
    for secret in history.secrets:
        for place, text in _texts(history):
            if secret in text:
                yield f"I12: a secret is told by {place}"


def _texts(history: History) -> Iterator[tuple[str, str]]:
    for entry in history.entries:
        yield f"entry {entry.sequence}", str(entry.to_document())

    for event in history.events:
        if isinstance(event, Ended):
            yield f"the exception of {event.runner}", event.text

    for text in history.texts:
        yield "a text", text


_RULES: tuple[Callable[[History], Iterable[str]], ...] = (
    log_rules.one_line,
    lease_rules.one_grant_per_epoch,
    lease_rules.one_holder,
    effect_rules.committed_once,
    effect_rules.executed_once,
    effect_rules.started_before,
    effect_rules.as_the_log_says,
    lease_rules.worked_under_lease,
    log_rules.nothing_lost,
    lease_rules.progress,
    log_rules.in_order,
    log_rules.each_follows,
    _foreseen,
    _nothing_told,
)
