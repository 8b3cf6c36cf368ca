"""How to tell one request or answer from the next."""

from __future__ import annotations

import asyncio
import re
from asyncio import StreamReader
from collections.abc import Awaitable, Callable

Read = Callable[[StreamReader], Awaitable[bytes]]
"""Returns the next piece of what one side says; nothing at its end."""

LONGEST_PIECE = 1 << 20


async def chunk(reader: StreamReader) -> bytes:
    """Return what has come in; drivers send a small request in one piece."""
    return await reader.read(LONGEST_PIECE)


async def http_message(reader: StreamReader) -> bytes:
    """Return a whole request or answer of HTTP."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        return head + await reader.readexactly(int(length[1]) if length else 0)
    except asyncio.IncompleteReadError:
        return b""
