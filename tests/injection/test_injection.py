"""Who gets what: what nobody can provide is a fault."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any

import pytest

from aflamingock._injection.annotation import Named
from aflamingock._injection.injection import Injector
from tests.injection import asking
from tests.injection.asking import (
    OFFERS,
    Mailer,
    Queue,
    asks_nothing,
    by_any,
    by_generic,
    by_given_name,
    by_name,
    by_protocol,
    by_shape,
    by_type,
    by_unchecked_protocol,
    by_union,
    by_word,
    faults,
    of,
    optional,
    store,
    takes_all,
    unseen,
)


class TestFaults:
    @pytest.mark.parametrize(
        ("method", "dependencies"),
        [
            (asks_nothing, {}),
            (by_name, {"retries": 3}),
            (by_type, {"mailer": Mailer()}),
            (by_union, {}),
            (by_generic, {"orders": Queue()}),
            (by_protocol, {"orders": Queue()}),
            (by_unchecked_protocol, {"jobs": Queue()}),
            (by_any, {"jobs": Queue()}),
            (by_given_name, {"orders": Queue(), "bills": Queue()}),
            (by_word, {"url": "x", "batch": 1}),
            (optional, {}),
            (takes_all, {}),
        ],
    )
    def test_what_can_be_provided_is_no_fault(
        self, method: Callable[..., object], dependencies: dict[str, object]
    ) -> None:
        assert faults(method, dependencies) == []

    def test_a_fault_says_all_that_is_needed(self) -> None:
        (fault,) = Injector({"jobs": Queue(), "url": "x"}).faults(of(by_type), OFFERS)
        assert (fault.change_id, fault.parameter, fault.file) == ("c-1", "out", "c.py")
        assert fault.line == by_type.__code__.co_firstlineno
        for part in (
            f"c.py:{fault.line}: Change 'c-1', execute(out: Sender): nobody can provide it",
            "ctx or context: aflamingock.abc.ChangeContext (from the run)",
            f"db or session: {asking.__name__}.SQLConnection (from the target system)",
            f"jobs: {asking.__name__}.Queue (from dependencies); url: str (from dependencies)",
            "dependencies={'out': ...}",
        ):
            assert part in str(fault)

    def test_all_three_coroutines_are_looked_at(self) -> None:
        found = faults(by_type, {}, rollback=by_generic, verify=by_word)
        assert [fault.split("(")[0].split()[-1] for fault in found] == [
            "execute",
            "rollback",
            "verify",
            "verify",
        ]

    def test_without_an_annotation_the_fault_shows_the_name(self) -> None:
        (fault,) = faults(by_name, {})
        assert "execute(retries): nobody" in fault

    def test_a_name_alone_is_not_enough_for_another_type(self) -> None:
        (fault,) = faults(by_protocol, {"jobs": Mailer()})
        assert "execute(jobs: CanPut)" in fault

    def test_a_type_alone_is_not_enough_for_plain_types(self) -> None:
        assert len(faults(by_word, {"dsn": "x", "batch": "many"})) == 2

    def test_two_of_a_type_are_a_fault_that_names_them(self) -> None:
        (fault,) = faults(by_generic, {"orders": Queue(), "bills": Queue()})
        assert "more than one object fits: orders: " in fault
        assert "bills: " in fault
        assert "Named(" in fault

    def test_two_of_a_type_are_told_apart_by_the_name(self) -> None:
        assert faults(by_generic, {"orders": Queue(), "jobs": Queue()}) == []

    def test_a_given_name_that_is_unknown_is_a_fault(self) -> None:
        (fault,) = faults(by_given_name, {"jobs": Queue()})
        assert "dependencies={'orders': ...}" in fault

    def test_an_annotation_that_cannot_be_evaluated_leaves_the_name(self) -> None:
        (fault,) = faults(unseen, {"mailer": Mailer()})
        assert "execute(jobs: Unseen): its annotation cannot be evaluated (name 'Unseen'" in fault

    def test_a_named_type_means_what_it_stands_for(self) -> None:
        extensions = pytest.importorskip("typing_extensions", reason="it is not installed")

        async def aliased(self, jobs): ...

        alias = extensions.TypeAliasType("Jobs", Annotated[Queue[int], Named("orders")])
        aliased.__annotations__["jobs"] = alias
        assert faults(aliased, {"orders": 1}) == []
        assert len(faults(aliased, {"jobs": Queue()})) == 1

    def test_a_protocol_with_attributes_is_asked_of_dependencies_only(self) -> None:
        queue = Queue[int]()
        vars(queue)["topic"] = "orders"
        assert len(faults(by_shape, {})) == 1
        assert faults(by_shape, {"orders": queue}) == []

    def test_the_audit_store_is_never_given(self) -> None:
        found = faults(store, {})
        assert len(found) == 2
        assert all("the audit store is never given to changes" in fault for fault in found)

    def test_an_inherited_method_is_found_in_its_own_file(self) -> None:
        change = of(by_type)
        change.cls.__module__ = "another"
        (fault,) = Injector({}).faults(change, OFFERS)
        assert fault.file == asking.__file__

    @pytest.mark.parametrize("method", [lambda: None, lambda *, of: None, 5, staticmethod(by_type)])
    def test_what_is_no_method_is_left_to_the_other_rules(self, method: Any) -> None:
        assert Injector({}).faults(of(asks_nothing, rollback=method), OFFERS) == []

    def test_a_signature_that_cannot_be_read_is_left_to_the_other_rules(self) -> None:
        async def hidden(self, jobs): ...

        vars(hidden)["__signature__"] = 5
        assert faults(hidden, {}) == []

    def test_a_decorated_method_is_read_through_its_decorator(self) -> None:
        @functools.wraps(by_generic)
        async def decorated(*args: Any, **kwargs: Any) -> None: ...

        (fault,) = Injector({}).faults(of(decorated), OFFERS)
        assert fault.parameter == "jobs"
        assert fault.line == by_generic.__code__.co_firstlineno
