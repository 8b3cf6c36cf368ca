from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from aflamingock._change import Change
from aflamingock._pipeline import LoadedStage, Pipeline, Stage, pipeline_faults, stages_before
from aflamingock.exceptions import ChangeLoadError, ConfigurationError


def make_change(id: str, order: str | None = None, **given: Any) -> Change:
    values: dict[str, Any] = {
        "cls": type(id.title(), (), {}),
        "file": f"{id}.py",
        "line": 3,
    } | given
    return Change(id=id, author="team", order=order or id, **values)


def pipeline_of(
    *stages: tuple[Stage, list[Change]], inactive: frozenset[str] = frozenset()
) -> tuple[Pipeline, list[Stage]]:
    declared = [stage for stage, _ in stages]
    loaded = tuple(
        LoadedStage(stage.name, tuple(changes), stages_before(declared, position))
        for position, (stage, changes) in enumerate(stages)
    )
    return Pipeline(loaded, inactive), declared


def faults_of(*stages: tuple[Stage, list[Change]], **given: Any) -> list[str]:
    targets = given.pop("targets", ())
    pipeline, declared = pipeline_of(*stages, **given)
    return [str(fault) for fault in pipeline_faults(pipeline, declared, targets)]


def stage(name: str, after: tuple[str, ...] | None = None) -> Stage:
    return Stage(name, location="shop", after=after)


MAIN = stage("main")


@pytest.mark.parametrize("location", ["shop.changes", Path("changes"), Stage])
def test_a_stage_has_one_location(location: Any):
    assert Stage("main", location=location).locations == (location,)


def test_a_stage_may_have_several_locations_or_none():
    assert Stage("main", location=["a", Path("b")]).locations == ("a", Path("b"))
    assert Stage("main", location=()).locations == ()


@pytest.mark.parametrize("name", ["", "-a", "a b", "a\n", "a" * 101, None])
def test_a_bad_stage_name_is_refused(name: Any):
    with pytest.raises(ConfigurationError, match="give a name of 1 to 100"):
        Stage(name, location="shop")


@pytest.mark.parametrize("location", ["", None, 3, [3], [""], {"a", "b"}, pytest])
def test_a_bad_location_is_refused(location: Any):
    with pytest.raises(ConfigurationError, match="is no location"):
        Stage("main", location=location)


@pytest.mark.parametrize("after", ["first", 3, [3], [""]])
def test_a_bad_after_is_refused(after: Any):
    with pytest.raises(ConfigurationError, match="give names of stages"):
        Stage("main", location="shop", after=after)


def test_a_stage_comes_after_all_those_given_before_it():
    declared = [stage("a"), stage("b", ()), stage("c"), stage("d", ("a", "a"))]
    found = [stages_before(declared, position) for position in range(4)]
    assert found == [(), (), ("a", "b"), ("a",)]
    assert declared[3].after == ("a", "a")


def test_a_pipeline_finds_changes_by_id():
    first, second = make_change("a"), make_change("b")
    pipeline, _ = pipeline_of((stage("one"), [first]), (stage("two"), [second]))
    assert list(pipeline.changes()) == [first, second]
    assert pipeline.find("b") is second
    assert pipeline.find("c") is None


def test_a_good_pipeline_has_no_faults():
    changes = [make_change("a", target_system="db"), make_change("b", depends_on=("a",))]
    later = [make_change("c", depends_on=("a", "b"))]
    assert faults_of((MAIN, changes), (stage("two"), later), targets={"db"}) == []
    assert faults_of((MAIN, [])) == []
    assert faults_of() == []


def test_an_id_used_twice_is_a_fault_that_names_both_files():
    twice = [make_change("a", "1"), make_change("a", "2", file="b.py", cls=Stage)]
    (fault,) = faults_of((MAIN, twice))
    assert fault.startswith("b.py:3: 2 changes have the id 'a': A (a.py), Stage (b.py). ")


def test_a_class_found_twice_is_told_from_two_classes():
    change = make_change("a")
    (fault,) = faults_of((MAIN, [change]), (stage("two"), [change]))
    assert "Change 'a' is found 2 times, in stage 'main', 'two': locations overlap." in fault
    (fault,) = faults_of((MAIN, [change, change]))
    assert "in stage 'main': locations overlap." in fault


def test_an_order_used_twice_in_a_stage_is_a_fault():
    same = [make_change("a", "1"), make_change("b", "1", file=None, module="shop")]
    (fault,) = faults_of((MAIN, same))
    assert fault.startswith("2 changes of stage 'main' have the order '1': A (a.py), B (shop). ")
    assert faults_of((MAIN, same[:1]), (stage("two"), same[1:])) == []


def test_an_unknown_target_system_is_a_fault_that_lists_the_known_ones():
    changes = [make_change("a", target_system="dp"), make_change("b")]
    (fault,) = faults_of((MAIN, changes), targets=["queue", "db"])
    assert fault.startswith("a.py:3: Change 'a' names the target system 'dp', ")
    assert "(known: 'db', 'queue')" in fault
    (fault,) = faults_of((MAIN, changes))
    assert "(which is empty)" in fault


def test_a_stage_name_used_twice_is_a_fault():
    (fault,) = faults_of((MAIN, [make_change("a")]), (MAIN, [make_change("b")]))
    assert fault.startswith("2 stages have the name 'main'. ")


def test_a_stage_after_an_unknown_one_or_itself_is_a_fault():
    found = faults_of((stage("main", ("main", "mian")), []), (stage("two"), []))
    assert found[0].startswith("Stage 'main' is to come after itself.")
    assert found[1].startswith("Stage 'main' is to come after 'mian', which is no stage. ")
    assert "'main', 'two'" in found[1]
    assert len(found) == 2


def test_stages_in_a_circle_are_shown():
    found = faults_of((stage("a", ("c",)), []), (stage("b"), []), (stage("c", ("b",)), []))
    (fault,) = found
    drawn = ["'a' -> 'c' -> 'b' -> 'a'", "'b' -> 'a' -> 'c' -> 'b'", "'c' -> 'b' -> 'a' -> 'c'"]
    assert sum(f"Stages wait for each other: {circle}. " in fault for circle in drawn) == 1


def test_every_circle_is_shown():
    edges = {"a": ("b", "c"), "b": ("a",), "c": ("a",), "d": ("e",), "e": ("d",)}
    found = faults_of(*((stage(name, after), []) for name, after in edges.items()))
    assert len(found) == 3


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("b", "Change 'b' depends on itself. Remove that."),
        ("nowhere", "depends on 'nowhere', which is no change of this pipeline."),
        ("test-data", "depends on 'test-data', which the profiles leave out."),
        ("c", "depends on 'c', which does not come before it."),
        ("d", "depends on 'd', which does not come before it."),
    ],
)
def test_a_dependency_must_come_before(wanted: str, said: str):
    changes = [make_change("a"), make_change("b", depends_on=(wanted,)), make_change("c")]
    (fault,) = faults_of(
        (MAIN, changes), (stage("two", ()), [make_change("d")]), inactive=frozenset({"test-data"})
    )
    assert fault.startswith("b.py:3: Change 'b' ")
    assert said in fault


def test_a_dependency_may_be_in_any_stage_before():
    stages = [stage("three", ("two",)), stage("two", ("one",)), stage("one", ())]
    changes = [[make_change("c", depends_on=("a",))], [], [make_change("a")]]
    assert faults_of(*zip(stages, changes, strict=True)) == []


def test_dependencies_in_a_circle_are_shown_once():
    (fault,) = faults_of(
        (MAIN, [make_change("a", depends_on=("b",)), make_change("b", depends_on=("a",))])
    )
    assert "Changes depend on each other: '" in fault
    assert "'a' -> 'b' -> 'a'" in fault or "'b' -> 'a' -> 'b'" in fault


def test_a_long_chain_of_dependencies_is_followed():
    ids = [f"{number:05}" for number in range(3000)]
    chain = [make_change(ids[0])] + [
        make_change(id, depends_on=(before,)) for before, id in pairwise(ids)
    ]
    assert faults_of((MAIN, chain)) == []


def test_dependencies_among_stages_in_a_circle_end():
    found = faults_of(
        (stage("a", ("b",)), [make_change("x", depends_on=("y",))]),
        (stage("b", ("a",)), [make_change("y")]),
    )
    assert len(found) == 1


def test_all_faults_are_found_and_those_of_changes_name_their_file():
    changes = [
        make_change("a", "1", target_system="x"),
        make_change("a", "1", depends_on=("z",), file="b.py"),
    ]
    pipeline, declared = pipeline_of((MAIN, changes), (MAIN, []))
    found = pipeline_faults(pipeline, declared, ())
    assert len(found) == 5
    assert sum(isinstance(fault, ChangeLoadError) for fault in found) == 4
