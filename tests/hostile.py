"""Objects that cannot be written down, and texts that can."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from hypothesis import strategies as st

UNSTORABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


class HostileError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")

    __repr__ = __str__


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no repr for you")


class HostileMapping(Mapping[str, object]):
    def __getitem__(self, key: str) -> object:
        raise RuntimeError("no value for you")

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        raise RuntimeError("no length for you")


class Unreadable(HostileMapping):
    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no keys for you")


class Endless(HostileMapping):
    def __iter__(self) -> Iterator[str]:
        while True:
            yield "key"

    def __getitem__(self, key: str) -> object:
        return []


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no text for you")


class Odd(int):
    def __repr__(self) -> str:
        return "not JSON"


def assert_storable(text: str, limit: int) -> None:
    assert len(text) <= limit
    assert not UNSTORABLE.search(text)
    text.encode()


any_text = st.text(st.characters(codec=None, exclude_categories=()))
