"""What goes into an audit entry: storable, and short enough."""

from __future__ import annotations

import json
import math
import re
from collections import UserDict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aflamingock._payload import storable_mapping, storable_text
from tests.hostile import (
    UNSTORABLE,
    Endless,
    Hostile,
    HostileMapping,
    Loud,
    Odd,
    Unreadable,
    any_text,
    assert_storable,
)


class Colour(Enum):
    RED = "red"
    MIXED = ("red", 1)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None, exclude_categories=()), max_size=50)
    | st.binary(max_size=50)
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
    | st.complex_numbers()
    | st.builds(Hostile)
    | st.builds(HostileMapping)
    | st.sampled_from(Colour),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers())
        | st.dictionaries(
            st.text(max_size=9) | st.integers() | st.none() | st.binary(max_size=9), inner
        )
    ),
    max_leaves=20,
)


class TestText:
    @pytest.mark.parametrize("text", ["", "add-user-status", "a\tb\nc", "naïve … 🦩"])
    def test_what_is_storable_is_kept(self, text: str) -> None:
        assert storable_text(text, 100) == text

    def test_what_no_database_takes_is_escaped(self) -> None:
        assert storable_text("a\x00b\x1b\r\x7f\udc80", 100) == r"a\x00b\x1b\x0d\x7f\udc80"

    def test_a_long_text_keeps_its_head_and_its_tail(self) -> None:
        text = storable_text("a" * 500 + "b" * 500, 100)
        assert text.startswith("aaaa")
        assert text.endswith("bbbb")
        assert len(text) <= 100

    def test_the_note_counts_what_is_cut(self) -> None:
        text = storable_text("a" * 1000, 100)
        head, count, tail = re.split(r" … (\d+) characters cut … ", text)
        assert len(head) + int(count) + len(tail) == 1000

    def test_escapes_do_not_exceed_the_limit(self) -> None:
        assert_storable(storable_text("\x00" * 100, 100), 100)

    @pytest.mark.parametrize("limit", [0, 1, 10])
    def test_a_limit_without_room_for_a_note_keeps_the_head(self, limit: int) -> None:
        assert storable_text("0123456789" * 10, limit) == "0123456789"[:limit]

    def test_ten_megabytes_are_cut(self) -> None:
        assert_storable(storable_text("\udc80" * 10_000_000, 20_000), 20_000)

    def test_a_text_with_a_will_of_its_own_is_read_as_it_is(self) -> None:
        assert type(storable_text(Loud("loud"), 100)) is str

    @settings(deadline=None)
    @given(any_text, st.integers(0, 200))
    def test_any_text_becomes_storable(self, text: str, limit: int) -> None:
        assert_storable(storable_text(text, limit), limit)


class TestMapping:
    def test_json_values_are_kept(self) -> None:
        value = {"a": 1, "b": [True, None, 1.5, "x"], "c": {"d": []}}
        copied = storable_mapping(value)
        assert copied == value
        assert copied["b"] is not value["b"]
        assert storable_mapping({}) == {}

    @pytest.mark.parametrize(
        ("value", "stored"),
        [
            (2**63 - 1, 2**63 - 1),
            (-(2**63), -(2**63)),
            (2**63, "9223372036854775808"),
            (10**5000, "<int that cannot be shown>"),
            (math.nan, "nan"),
            (-math.inf, "-inf"),
            (b"ab\xff", r"ab\xff"),
            (memoryview(b"ab"), "ab"),
            (datetime(2025, 1, 2, tzinfo=UTC), "2025-01-02T00:00:00+00:00"),
            (date(2025, 1, 2), "2025-01-02"),
            (timedelta(hours=1), "1:00:00"),
            (Colour.RED, "red"),
            (Colour.MIXED, ["red", 1]),
            (Decimal("1.50"), "1.50"),
            (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
            (PurePosixPath("a/b"), "a/b"),
            ((1, 2), [1, 2]),
            (frozenset({1}), [1]),
            (UserDict({"a": 1}), {"a": 1}),
            ({1: "a", None: "b", (1, 2): "c"}, {"1": "a", "None": "b", "[1, 2]": "c"}),
            (1j, "1j"),
            ("a\x00\udc80", r"a\x00\udc80"),
            (Hostile(), "<Hostile that cannot be shown>"),
            (HostileMapping(), "… cannot be read (RuntimeError) …"),
            (Endless(), "… too large …"),
            ([[]] * 100_000, "… too large …"),
            (["x" * 100] * 1000, "… too large …"),
            (["\U0001f9a9" * 1000], "… too large …"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_what_is_no_json_is_written_as_text(self, value: object, stored: object) -> None:
        assert storable_mapping({"v": value}) == {"v": stored}

    def test_a_number_with_a_will_of_its_own_is_written_as_it_is(self) -> None:
        assert json.dumps(storable_mapping({"v": Odd(5)})) == '{"v": 5}'

    def test_long_texts_and_bytes_are_cut(self) -> None:
        stored = storable_mapping({"text": "x" * 10_000_000, "bytes": b"\xff" * 10_000_000})
        assert "9999" in stored["text"]
        assert stored["bytes"].endswith("9999000 bytes cut …")

    def test_circles_and_depths_end(self) -> None:
        circle: list[Any] = [1]
        circle.append(circle)
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]

        stored = storable_mapping({"circle": circle, "deep": deep, "twice": [[1], [1]]})
        assert stored["circle"] == [1, "… contains itself …"]
        assert json.dumps(stored["deep"]).count("[") == 16
        assert stored["twice"] == [[1], [1]]

    def test_what_does_not_fit_is_named(self) -> None:
        given_values = {f"key-{n}": "x" * 900 for n in range(20)} | {"last": 1}
        stored = storable_mapping(given_values)
        assert stored["key-0"] == "x" * 900
        assert stored["key-19"] == "… too large …"
        assert stored["last"] == 1
        many = storable_mapping({f"key-{n}": n for n in range(10_000)})
        assert next(iter(many)) == "key-0"
        assert re.fullmatch(r"\d+ more left out", many["…"])
        assert len(json.dumps(many)) <= 8192

    def test_a_mapping_that_cannot_be_read_leaves_a_note(self) -> None:
        assert storable_mapping(Unreadable()) == {
            "…": "metadata that cannot be read (RuntimeError)"
        }
        assert storable_mapping({Hostile(): 1}) == {"<Hostile that cannot be shown>": 1}
        broken = type("Broken", (), {"__class__": property(Hostile.__repr__)})()
        assert storable_mapping({"b": broken}) == {"b": "… cannot be read (RuntimeError) …"}
        assert storable_mapping({broken: 1}) == {"…": "… cannot be read (RuntimeError) …"}

    def test_a_secret_in_the_repr_of_an_object_is_taken_out(self) -> None:
        engine = type("Engine", (), {"__repr__": lambda _: "Engine(postgresql://app:pw@db/x)"})()
        assert storable_mapping({"e": engine}) == {"e": "Engine(postgresql://app:***@db/x)"}

    @settings(deadline=None)
    @given(st.dictionaries(st.text(max_size=20) | st.integers(), anything))
    def test_any_mapping_becomes_storable(self, mapping: dict[Any, Any]) -> None:
        stored = storable_mapping(mapping)
        text = json.dumps(stored, sort_keys=True, allow_nan=False)
        assert len(text) <= 8192
        assert json.loads(text) == stored
        assert not UNSTORABLE.search(json.dumps(stored, ensure_ascii=False).replace("\\n", ""))
