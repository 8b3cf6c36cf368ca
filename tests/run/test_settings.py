"""What a Flamingock is given is checked, and the fault is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aflamingock._options import AuditOptions, LockOptions, OnHistory, RetryPolicy
from aflamingock._pipeline import Stage
from aflamingock._run.settings import (
    Settings,
    TransactionMode,
    check_choice,
    check_dependencies,
    check_service,
    check_stages,
    check_store,
    check_targets,
    check_texts,
)
from aflamingock.exceptions import ConfigurationError
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.targets.plain import NonTransactionalTargetSystem

_STAGE = Stage("main", location="shop.changes")


class TestStages:
    def test_changes_are_a_stage(self):
        assert check_stages("shop.changes", None) == (Stage("default", location="shop.changes"),)

    def test_stages_stay_as_they_are(self):
        assert check_stages(None, [_STAGE]) == (_STAGE,)

    def test_both_are_refused(self):
        with pytest.raises(ConfigurationError, match="either changes= or stages=, not both"):
            check_stages("shop.changes", [_STAGE])

    def test_none_is_no_stage(self):
        assert check_stages(None, None) == ()

    def test_what_is_no_stage_is_named(self):
        with pytest.raises(ConfigurationError, match="stages=: 'shop.changes' is no Stage"):
            check_stages(None, ["shop.changes"])  # type: ignore[list-item]  # a wrong argument is the test

    def test_a_stage_alone_is_no_list(self):
        with pytest.raises(ConfigurationError, match=r"stages=Stage\(.*: give a list of stages"):
            check_stages(None, _STAGE)  # type: ignore[arg-type]  # a wrong argument is the test


class TestStore:
    def test_a_store_is_passed_on(self):
        store = MemoryAuditStore()

        assert check_store(store) is store

    def test_a_missing_one_is_asked_for(self):
        with pytest.raises(ConfigurationError, match=r"is needed, and none was given.*Pass audit_"):
            check_store(None)

    def test_what_is_no_store_is_named(self):
        with pytest.raises(ConfigurationError, match=r"is needed, and 'audit\.db' is none"):
            check_store("audit.db")

    def test_the_password_of_a_url_is_not_repeated(self):
        with pytest.raises(ConfigurationError, match=r"postgresql://me:\*\*\*@host/db"):
            check_store("postgresql://me:secret@host/db")

        with pytest.raises(ConfigurationError, match=r"mongodb://me:\*\*\*@host/db"):
            check_targets(["mongodb://me:secret@host/db"])


class TestTargets:
    def test_they_are_found_by_id(self):
        one, other = NonTransactionalTargetSystem("one"), NonTransactionalTargetSystem("other")

        assert check_targets([one, other]) == {"one": one, "other": other}

    def test_two_with_one_id_are_refused(self):
        with pytest.raises(ConfigurationError, match="two of them have the id 'one'"):
            check_targets([NonTransactionalTargetSystem("one") for _ in range(2)])

    def test_what_is_no_target_is_named(self):
        with pytest.raises(ConfigurationError, match="'shop-db' is no TargetSystem"):
            check_targets(["shop-db"])

    def test_an_id_is_a_text(self):
        with pytest.raises(ConfigurationError, match="id of a target system.*=3: give a text"):
            check_targets([NonTransactionalTargetSystem(3)])  # type: ignore[arg-type]  # the test


class TestDependencies:
    def test_a_mapping_gives_names(self):
        assert check_dependencies({"mailer": 1}) == {"mailer": 1}

    def test_others_are_told_apart_by_number(self):
        assert check_dependencies([1, 2, "x"]) == {"int #0": 1, "int #1": 2, "str #2": "x"}

    @pytest.mark.parametrize("given", [{"log": MemoryAuditStore()}, [MemoryAuditStore()]])
    def test_an_audit_store_is_refused(self, given):
        with pytest.raises(ConfigurationError, match=r" \(MemoryAuditStore\) is an audit store"):
            check_dependencies(given)


class TestTexts:
    @pytest.mark.parametrize("values", [["a", "b"], ("a", "b"), dict.fromkeys("ab").keys()])
    def test_a_collection_of_texts_is_passed_on(self, values):
        assert check_texts("profiles", values) == ("a", "b")

    def test_none_of_them_is_fine(self):
        assert check_texts("profiles", ()) == ()

    @pytest.mark.parametrize("values", ["dev", b"dev", [1], ["dev", None], None, 5, iter("a")])
    def test_anything_else_is_refused(self, values):
        with pytest.raises(ConfigurationError, match="profiles=.*give a list of texts"):
            check_texts("profiles", values)


class TestService:
    @pytest.mark.parametrize("name", ["s", "shop", "Shop-2.eu:a/b@c_d", "9", "x" * 190])
    def test_a_name_is_passed_on(self, name):
        assert check_service(name) == name

    @pytest.mark.parametrize(
        "name", ["", "-x", ".x", "a b", "ä", "x" * 191, "a\n", "a\x00", None, 5, b"shop"]
    )
    def test_anything_else_is_refused(self, name):
        with pytest.raises(ConfigurationError, match="service=.*1 to 190 letters, digits"):
            check_service(name)


class TestChoice:
    @pytest.mark.parametrize("value", ["error", "warn", "ignore"])
    def test_a_choice_is_passed_on(self, value):
        assert check_choice("on_drift", value, OnHistory) == value

    def test_anything_else_is_refused_with_the_choices(self):
        with pytest.raises(
            ConfigurationError, match="mode='own': give one of 'shared', 'separate'"
        ):
            check_choice("mode", "own", TransactionMode)

    def test_what_cannot_be_compared_is_refused_as_well(self):
        with pytest.raises(ConfigurationError, match="on_drift=None"):
            check_choice("on_drift", None, OnHistory)  # type: ignore[arg-type]  # a wrong argument is the test


class TestLockOptions:
    def test_the_defaults_are_those_of_the_documentation(self):
        assert LockOptions() == LockOptions(
            ttl=60, timeout=180, retry_interval=1, on_timeout="raise"
        )

    @pytest.mark.parametrize(
        "values",
        [
            {"ttl": 1},
            {"ttl": 3600},
            {"timeout": 0},
            {"timeout": 1e9},
            {"retry_interval": 0.01},
            {"retry_interval": 60},
            {"on_timeout": "skip"},
        ],
    )
    def test_the_limits_are_allowed(self, values):
        options = LockOptions(**values)

        assert {name: getattr(options, name) for name in values} == values

    @pytest.mark.parametrize(
        "values",
        [
            {"ttl": 0.99},
            {"ttl": 3600.1},
            {"ttl": float("nan")},
            {"timeout": -0.1},
            {"timeout": float("inf")},
            {"timeout": float("nan")},
            {"retry_interval": 0},
            {"retry_interval": 60.1},
            {"retry_interval": float("nan")},
            {"on_timeout": "wait"},
        ],
    )
    def test_what_is_out_of_range_is_named(self, values):
        [name] = values
        with pytest.raises(ConfigurationError, match=rf"LockOptions\({name}=.*\): give "):
            LockOptions(**values)


class TestAuditOptions:
    @pytest.mark.parametrize("size", [0, 1001, -1])
    def test_a_batch_has_one_to_a_thousand_entries(self, size: int):
        with pytest.raises(ConfigurationError, match=r"AuditOptions\(batch_size=.*\): give 1 to"):
            AuditOptions(batch_size=size)


class TestRetryPolicy:
    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("initial", {"initial": 0}),
            ("initial", {"initial": 61}),
            ("maximum", {"initial": 2, "maximum": 1}),
            ("maximum", {"maximum": float("inf")}),
            ("factor", {"factor": 0.5}),
            ("factor", {"factor": float("nan")}),
        ],
    )
    def test_a_value_out_of_range_is_refused(self, name: str, values: dict[str, float]):
        with pytest.raises(ConfigurationError, match=rf"RetryPolicy\({name}=.*\): give "):
            RetryPolicy(**values)

    def test_pauses_grow_up_to_the_longest(self):
        policy = RetryPolicy.exponential_backoff(initial=1, maximum=5, factor=2)
        assert [policy.pause(tries) for tries in (1, 2, 3, 4, 1000)] == [1, 2, 4, 5, 5]

    def test_pauses_can_be_all_the_same(self):
        policy = RetryPolicy.fixed(0.5)
        assert [policy.pause(tries) for tries in (1, 2, 1000)] == [0.5, 0.5, 0.5]


class TestDigest:
    _SETTINGS = Settings(
        stages=(),
        audit_store=MemoryAuditStore(),
        targets={
            None: NonTransactionalTargetSystem("none"),
            "b": NonTransactionalTargetSystem("b"),
            "a": NonTransactionalTargetSystem("a"),
        },
        dependencies={},
        service="shop",
        environment="test",
        profiles=("y", "x"),
        lock=LockOptions(),
        audit=AuditOptions(),
        metadata={},
        enabled=True,
        on_drift="error",
        on_out_of_order="error",
        transaction_mode="shared",
    )

    def test_it_names_what_decides_whether_something_is_pending(self):
        assert self._SETTINGS.of_digest() == {
            "environment": "test",
            "profiles": ["x", "y"],
            "targets": ["a", "b"],
            "on_drift": "error",
            "on_out_of_order": "error",
            "transaction_mode": "shared",
        }

    def test_the_order_of_profiles_does_not_count(self):
        assert replace(self._SETTINGS, profiles=("x", "y")).of_digest() == (
            self._SETTINGS.of_digest()
        )

    def test_the_times_of_the_lock_do_not_count(self):
        assert replace(self._SETTINGS, lock=LockOptions(ttl=5)).of_digest() == (
            self._SETTINGS.of_digest()
        )
