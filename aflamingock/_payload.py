"""Make what goes into an audit entry storable, whatever it is, and free of secrets."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from datetime import date, time, timedelta
from enum import Enum
from itertools import islice
from traceback import TracebackException
from types import TracebackType
from typing import Any

_LINE = 500
_TRACE = 20_000
_METADATA = 8 * 1024
_TEXT = 1_000  # of one value in metadata
_KEY = 200
_DEPTH = 16
_INT64 = 2**63
_LAST_WORD = 64  # kept free in metadata for the note on what is left out
# What is redacted of an error at the most; the rest lies far from what is kept of it.
_WINDOW = 50_000
_PACKAGE = os.path.dirname(__file__) + os.sep

# Lone surrogates are refused by every driver, NUL by PostgreSQL; a terminal obeys the others.
_UNSTORABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

_TO_LAST_BRACKET = r"(?:[^\n]*(?=[)}\]])|[^\n]*)"
_NAME_OF_SECRET = (
    r"(?:passw(?:or)?d|pwd|secret|token|api[_-]?key|access[_-]?key)[\w-]{0,40}\\?[\"']?"
    r"\s{0,8}(?:=>|[:=]{1,2})\s{0,8}"
    r"|(?:password|identified\ by)\s{1,8}(?=[\"'])"
)
_VALUE = (
    r"\*\*\*"
    r"|[brf]{0,2}\"[^\"\\\n]*(?:\\.[^\"\\\n]*)*\"?"
    r"|[brf]{0,2}'[^'\\\n]*(?:(?:\\.|'')[^'\\\n]*)*'?"
    r"|[^\s;&]+(?:\s=\s\S+)?"
)
_REFUSED_VALUE = r"invalid input (?:syntax for type [\w ]{1,40}|for query argument \$\d{1,6})"
_REFUSED_BY_MYSQL = r"(?:Duplicate entry|[Ii]ncorrect \w{1,40} value:)"
# Compiled at the first error: that takes long, and most processes never see one.
# No pattern looks at a piece of text more than a fixed number of times, whatever is in it.
_SECRETS = (
    (r"(\[parameters: )" + _TO_LAST_BRACKET, r"\1***"),
    (r"(\)=\(|Failing row contains \(|dup key: \{)" + _TO_LAST_BRACKET, r"\1***"),
    (rf"({_REFUSED_VALUE}: )[^\n]{{0,400}}", r"\1***"),
    (r"(syntax to use near )[^\n]{0,400}(?= at line \d)", r"\1***"),
    (rf"({_REFUSED_BY_MYSQL} )[^\n]{{0,400}}(?= for (?:key|column))", r"\1***"),
    (r"(://[^\s/:@]*:)(?!\d+/)(?:(?!://)\S)*@", r"\1***@"),
    # SQLAlchemy writes a password with its blanks.
    (r"(://[^\s/:@\[]*:)(?!\d{1,5}(?![\w@])|\*\*\*@)(?:(?!://)[^\n]){0,100}@", r"\1***@"),
    (r"://[^\s/:@]+@", "://***@"),
    (r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", "***"),
    (r"(?i)\b(bearer|basic)(\s{1,8})[\w.~+/=-]+", r"\1\2***"),
    (rf"(?i)({_NAME_OF_SECRET})(?:{_VALUE})", r"\1***"),
)


def redacted(text: str) -> str:
    """
    Return *text* with ``***`` in the place of what looks like a secret or like stored data.

    These are passwords in URLs, values of ``password=`` and its like, keys of AWS, credentials of
    HTTP, and the values that SQLAlchemy, PostgreSQL, MySQL and MongoDB quote in their errors. In
    doubt more is taken out than needed.
    """
    for pattern, replacement in _SECRETS:
        text = re.sub(pattern, replacement, text)

    return text


def storable_text(text: str, limit: int) -> str:
    """
    Return *text* as every database takes it.

    Lone surrogates and control characters are written as escapes. What is too long loses its
    middle, and says so there.

    :param limit: how many characters to return at the most
    """
    text = str.__str__(text)
    if len(text) <= limit:
        text = head = tail = _UNSTORABLE.sub(_escape, text)
        if len(text) <= limit:
            return text
    else:
        head, tail = (_UNSTORABLE.sub(_escape, end) for end in (text[:limit], text[-limit:]))

    room = limit - len(_cut(len(text)))
    if room <= 0:
        return head[: max(limit, 0)]

    half = room // 2
    return head[: room - half] + _cut(len(text) - room) + tail[len(tail) - half :]


def _cut(count: int) -> str:
    return f" … {count} characters cut … "


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def error_line(exc: BaseException) -> str:
    """Return what an error says in one line of at most 500 characters, without secrets."""
    try:
        return storable_text(" ".join(_without_secrets(_told(exc)).split()), _LINE)
    except Exception:  # an error that cannot be told must not hide that there was one
        return type(exc).__name__


def error_trace(exc: BaseException) -> str:
    """
    Return an error with its traceback, its causes and its notes, without secrets.

    The first frames are left out as long as they are our own. Source files are read.

    :return: at most 20,000 characters
    """
    try:
        trace = TracebackException(type(exc), exc, _users_part(exc.__traceback__))
        return storable_text(_without_secrets("".join(trace.format()).rstrip()), _TRACE)
    except Exception:  # as above
        return error_line(exc)


def _without_secrets(text: str) -> str:
    return redacted(storable_text(text, _WINDOW))


def _told(exc: BaseException, depth: int = 0) -> str:
    message = _shown(exc, str)
    told = f"{type(exc).__name__}: {message}" if message else type(exc).__name__
    # A note is how a target system says what to do about an error of its driver. It has a line of
    # its own, so that it is not taken for a part of what is redacted in the message.
    notes = getattr(exc, "__notes__", None)
    for note in notes[:3] if isinstance(notes, list) else ():
        told += f"\n[{_shown(note, str)}]"

    if not isinstance(exc, BaseExceptionGroup) or depth == _DEPTH:
        return told

    # The error that counts is inside: a task group says no more than that there is one.
    inside = "; ".join(_told(one, depth + 1) for one in exc.exceptions[:3])
    return f"{told}: {inside}"


def _users_part(traceback: TracebackType | None) -> TracebackType | None:
    part = traceback
    while part is not None and part.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        part = part.tb_next

    return part or traceback


def _shown(value: object, show: Callable[[object], str]) -> str:
    try:
        return str.__str__(show(value))
    except Exception:  # a value's own code raises whatever it likes
        return f"<{type(value).__name__} that cannot be shown>"


def storable_mapping(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    """
    Return a copy of *mapping* in JSON values that every database takes, at most 8 KiB of JSON.

    What has no place in JSON is written as text; what is too large, too deep or cannot be read is
    replaced by a note.
    """
    stored: dict[str, Any] = {}
    room = _METADATA - _LAST_WORD
    try:
        keys = list(islice(mapping, _METADATA))
    except Exception as exc:  # a mapping's own code raises whatever it likes
        return {"…": f"metadata that cannot be read ({type(exc).__name__})"}

    for position, key in enumerate(keys):
        name, value = _item(mapping, key)
        size = len(json.dumps({name: value}))
        if size > room:
            value = "… too large …"
            size = len(json.dumps({name: value}))

        if size > room:
            stored["…"] = f"{len(keys) - position} more left out"
            break

        stored[name] = value
        room -= size

    return stored


def _item(mapping: Mapping[Any, Any], key: Any) -> tuple[str, Any]:
    name = "…"
    try:
        name = _Copy().key(key)
        return name, _Copy().value(mapping[key])
    except _TooLargeError:
        return name, "… too large …"
    except Exception as exc:  # a value's own code raises whatever it likes
        return name, f"… cannot be read ({type(exc).__name__}) …"


class _TooLargeError(Exception):
    """More than metadata may hold."""


class _Copy:
    """A copy in JSON values, given up as soon as it is surely too large."""

    def __init__(self) -> None:
        self._size = 0
        self._open: set[int] = set()

    def key(self, key: Any) -> str:
        return storable_text(key if isinstance(key, str) else str(self.value(key)), _KEY)

    def value(self, value: Any) -> Any:
        if isinstance(value, Enum):
            value = value.value

        if isinstance(value, Mapping | list | tuple | set | frozenset):
            return self._container(value)

        copied = _scalar(value)
        self._count(len(copied) if isinstance(copied, str) else 1)
        return copied

    def _count(self, size: int) -> None:
        self._size += size + 2  # for quotes, brackets or a separator
        if self._size > _METADATA:
            raise _TooLargeError

    def _container(self, value: Any) -> Any:
        self._count(0)
        if id(value) in self._open:
            return self.value("… contains itself …")

        if len(self._open) == _DEPTH:
            return self.value("… too deep …")

        self._open.add(id(value))
        try:
            if isinstance(value, Mapping):
                return {self.key(key): self.value(value[key]) for key in value}

            return [self.value(item) for item in value]
        finally:
            self._open.remove(id(value))


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value

    # The operators give the plain number also of a subclass that writes itself in its own way.
    if isinstance(value, int) and -_INT64 <= (number := int.__pos__(value)) < _INT64:
        return number

    if isinstance(value, float) and math.isfinite(value):
        return float.__pos__(value)

    if isinstance(value, str):
        return storable_text(value, _TEXT)

    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        text = data[:_TEXT].decode("utf-8", "backslashreplace")
        cut = f" … {len(data) - _TEXT} bytes cut …" if len(data) > _TEXT else ""
        return storable_text(text + cut, _TEXT)

    if isinstance(value, date | time):
        return storable_text(value.isoformat(), _TEXT)

    plain = isinstance(value, int | float | os.PathLike | timedelta) or _is_plain(type(value))
    return storable_text(_without_secrets(_shown(value, str if plain else repr)), _TEXT)


def _is_plain(kind: type) -> bool:
    """Say whether values tell all of themselves as text; their modules take long to import."""
    return (kind.__module__, kind.__name__) in (("decimal", "Decimal"), ("uuid", "UUID"))
