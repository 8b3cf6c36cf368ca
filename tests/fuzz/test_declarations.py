"""Whatever ``@change`` and ``Flamingock`` are given is accepted, or refused by one error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aflamingock import (
    AuditOptions,
    ConfigurationError,
    Flamingock,
    LockOptions,
    Recovery,
    RetryPolicy,
    Stage,
    change,
)
from aflamingock.stores.memory import MemoryAuditStore

TEXTS = st.text(st.characters(exclude_categories=()), max_size=30)
ODD: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXTS
    | st.binary(max_size=10)
    | st.lists(TEXTS, max_size=3)
    | st.dictionaries(TEXTS, TEXTS, max_size=3)
    | st.just(object())
    | st.just(int)
)
DECLARATIONS = st.fixed_dictionaries(
    {"id": ODD | st.just("a"), "author": ODD | st.just("tests")},
    optional={
        "target_system": ODD,
        "order": ODD | st.just("1"),
        "transactional": ODD,
        "recovery": ODD | st.sampled_from(Recovery),
        "timeout": ODD,
        "tags": ODD,
        "profiles": ODD,
        "depends_on": ODD,
        "run_always": ODD,
        "metadata": ODD,
    },
)
EXAMPLES = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def class_of(declaration: dict[str, Any]) -> type:
    class Change:
        async def execute(self) -> None:
            """Do nothing."""

    return change(**declaration)(Change)


def refusal(make: Callable[[], object]) -> str | None:
    """Return how it was refused, if it was; any other error is a fault."""
    try:
        make()
    except ConfigurationError as exc:
        return str(exc)

    return None


@EXAMPLES
@given(declarations=st.lists(DECLARATIONS, min_size=1, max_size=3))
def test_any_declaration_is_run_or_refused_before_anything_is_written(
    declarations: list[dict[str, Any]],
) -> None:
    store = MemoryAuditStore()
    flamingock = Flamingock(changes=[class_of(each) for each in declarations], audit_store=store)
    refused = refusal(lambda: anyio.run(flamingock.run))
    assert bool(anyio.run(store.last, "default", 1)) is (refused is None)


@EXAMPLES
@given(
    arguments=st.dictionaries(
        st.sampled_from(
            (
                *("service", "environment", "profiles", "metadata", "listeners", "lock", "audit"),
                *("on_drift", "on_out_of_order", "transaction_mode", "target_systems"),
                *("dependencies", "enabled"),
            )
        ),
        ODD,
        max_size=3,
    )
)
def test_any_argument_is_accepted_or_refused_at_construction(arguments: dict[str, Any]) -> None:
    declared = class_of({"id": "a", "author": "tests", "order": "1"})
    refusal(lambda: Flamingock(changes=[declared], audit_store=MemoryAuditStore(), **arguments))


@EXAMPLES
@given(name=ODD, location=ODD, after=ODD)
def test_any_stage_is_accepted_or_refused_at_construction(
    name: Any, location: Any, after: Any
) -> None:
    refusal(lambda: Stage(name, location=location, after=after))


@EXAMPLES
@given(ttl=ODD, timeout=ODD, retry_interval=ODD, on_timeout=ODD, attempts=ODD)
def test_any_option_is_accepted_or_refused_at_construction(
    ttl: Any, timeout: Any, retry_interval: Any, on_timeout: Any, attempts: Any
) -> None:
    for make in (
        lambda: LockOptions(ttl=ttl),
        lambda: LockOptions(timeout=timeout, retry_interval=retry_interval),
        lambda: LockOptions(on_timeout=on_timeout),
        lambda: RetryPolicy(initial=ttl, maximum=timeout, factor=attempts),
        lambda: AuditOptions(batch_size=attempts, retry=on_timeout),
    ):
        refusal(make)
