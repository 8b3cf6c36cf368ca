from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from aflamingock._change import Change, Declaration, change, declaration_of, order_in_name
from aflamingock._states import Recovery


class Plain:
    async def execute(self) -> None: ...


def class_with(**members: Any) -> type:
    return type("Add", (), {"execute": Plain.execute} | members)


@pytest.mark.parametrize(
    ("stem", "order"),
    [
        ("_0001__create_users", "0001"),
        ("_0001_create_users", "0001"),
        ("_0001_create__users", "0001"),
        ("_2024_01_15__create", "2024_01_15"),
        ("_V1.2-beta__create", "V1.2-beta"),
        ("_1__a__b", "1"),
        ("_1__\n", "1"),
        ("_\u0661__create", None),
        ("__init__", None),
        ("_helper", None),
        ("_some_helper", None),
        ("_0001__", "0001"),
        ("0001__create", None),
        ("create", None),
    ],
)
def test_a_file_name_gives_the_order(stem: str, order: str | None):
    assert order_in_name(stem) == order


def test_the_decorator_returns_the_class_and_keeps_what_was_given():
    declared = change(id="add", author="team", tags=["a"])(Plain)
    assert declared is Plain
    declaration = declaration_of(Plain)
    assert declaration is not None
    assert (declaration.id, declaration.author, declaration.tags) == ("add", "team", ["a"])
    assert declaration.recovery is Recovery.MANUAL_INTERVENTION


def test_the_decorator_raises_for_no_value():
    wrong: Any = object()
    change(id=wrong, author=wrong, order=wrong, timeout=wrong, tags=wrong, metadata=wrong)(
        class_with()
    )


def test_a_declaration_is_not_inherited():
    parent = change(id="a", author="b")(class_with())
    assert declaration_of(type("Child", (parent,), {})) is None


def test_only_classes_and_functions_are_asked_for_a_declaration():
    class Proxy:
        @property  # type: ignore[misc]  # a class may be a property, as in proxies
        def __class__(self):
            raise RuntimeError("not bound")

        def __getattr__(self, name: str):
            raise RuntimeError("not bound")

    assert declaration_of(Proxy()) is None
    assert declaration_of(change(id="a", author="b")(lambda: None))  # type: ignore[type-var]  # a wrong one


def test_a_change_is_built_from_a_declaration():
    found = Change.from_declaration(
        Plain,
        Declaration(
            id="add",
            author="team",
            target_system="db",
            timeout=3,
            tags={"b", "a"},
            profiles=["x"],
            recovery=Recovery.ALWAYS_RETRY,
            transactional=False,
            run_always=True,
            metadata={"a": 1},
        ),
        order="0001",
        file="shop/a.py",
        line=3,
        source="shop/a.py",
        checksum="1:x",
    )
    assert (found.id, found.author, found.order, found.target_system) == (
        "add",
        "team",
        "0001",
        "db",
    )
    assert (found.timeout, found.tags, found.profiles) == (3.0, ("a", "b"), ("x",))
    assert found.recovery is Recovery.ALWAYS_RETRY
    assert not found.transactional
    assert found.run_always
    assert found.metadata == MappingProxyType({"a": 1})
    assert found.invoked_class == f"{__name__}.Plain"
    assert not found.has_rollback
    assert not found.has_verify


def test_a_change_knows_its_methods():
    declared = class_with(rollback=Plain.execute, verify=Plain.execute)
    found = Change(id="a", author="b", order="1", cls=declared, module="shop.changes")
    assert found.has_rollback
    assert found.has_verify
    assert found.invoked_class == "shop.changes.Add"


def test_bad_values_are_replaced_by_harmless_ones():
    bad = dict.fromkeys(Declaration.__dataclass_fields__, object)
    found = Change.from_declaration(Plain, Declaration(**bad), order="1")
    assert found.id == repr(object)
    assert found.target_system is None
    assert found.transactional
    assert found.timeout is None
    assert found.tags == found.profiles == found.depends_on == ()
    assert found.recovery is Recovery.MANUAL_INTERVENTION
    assert not found.run_always
    assert found.metadata == {}
