"""A dependency of every behaviour, as an application hands it over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import anyio
import anyio.lowlevel


class Mailer:
    """Something with behaviour, as an application hands it over."""

    kind = "smtp"
    opened = 0

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.inner: Any = None

    def send(self, text: str) -> str:
        self.sent.append(text)
        return text

    async def send_later(self, text: str) -> str:
        await anyio.lowlevel.checkpoint()
        return self.send(text)

    async def stream(self) -> AsyncIterator[str]:
        for text in self.sent:
            yield text

    def __call__(self, text: str) -> str:
        return self.send(text)

    async def __aenter__(self) -> Mailer:
        self.opened += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.opened -= 1

    def __enter__(self) -> Mailer:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __getitem__(self, index: int) -> str:
        return self.sent[index]

    def __setitem__(self, index: int, text: str) -> None:
        self.sent[index] = text

    def __len__(self) -> int:
        return len(self.sent)

    def __contains__(self, text: object) -> bool:
        return text in self.sent

    def __iter__(self) -> Iterator[str]:
        return iter(self.sent)

    def __aiter__(self) -> AsyncIterator[str]:
        return self.stream()

    def __await__(self) -> Generator[Any, Any, str]:
        return (yield from self.send_later("awaited").__await__())

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mailer)

    def __hash__(self) -> int:
        return 5

    def __repr__(self) -> str:
        return "<mailer>"

    def __add__(self, other: object) -> str:
        return f"plus {other}"
