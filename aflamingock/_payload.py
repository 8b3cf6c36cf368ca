"""Make what goes into an audit entry storable, whatever it is, and free of secrets."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from traceback import TracebackException
from types import TracebackType
from typing import Any
from uuid import UUID

_LINE = 500
_TRACE = 20_000
_METADATA = 8 * 1024
_KEY = 200
_TEXT = 4_000
_DEPTH = 16
_NODES = _METADATA // 2  # more cannot fit: each takes two characters and a separator
_INT64 = 2**63
# What is redacted at most: beyond it the middle is cut first, far from what will be kept.
_WINDOW = 200_000
_PACKAGE = os.path.dirname(__file__) + os.sep

# No database takes a lone surrogate, PostgreSQL takes no NUL, terminals obey control characters.
_UNSTORABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")

# Each alternative begins with fixed text, and what follows cannot run past the next beginning
# more than once, so that the time is linear in the length of the text.
_REST_OF_LINE = r"(?:[^\n]*(?=[)}\]])|[^\n]*)"
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(\[parameters: )" + _REST_OF_LINE, r"\1***"),
        (r"(\)=\(|Failing row contains \(|dup key: \{)" + _REST_OF_LINE, r"\1***"),
        (r"(://(?:[^\s/:@]*:)?)[^\s/]*@", r"\1***@"),
        (r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", "***"),
        (r"(?i)\b(bearer|basic)(\s+)[\w.~+/=-]+", r"\1\2***"),
        (
            r"(?i)((?:passw(?:or)?d|pwd|secret|token|api[_-]?key|access[_-]?key)[\w-]{0,40}"
            r"\\?[\"']?\s{0,8}(?:=>|[:=]{1,2})\s{0,8}|(?:password|identified by)\s{1,8}(?=[\"']))"
            r"(?:[brf]{0,2}\"(?:[^\"\\\n]|\\.)*\"?|[brf]{0,2}'(?:[^'\\\n]|\\.)*'?|[^\s;&]+)",
            r"\1***",
        ),
    )
)


def storable_text(text: str, limit: int) -> str:
    """
    Return *text* as every database takes it.

    Lone surrogates and control characters are written as escapes. What is too long loses its
    middle, and says so there.

    :param limit: the characters to keep at the most
    """
    text, cut = _without_middle(str.__str__(text), limit, 0)
    text = _UNSTORABLE.sub(_escaped, text)
