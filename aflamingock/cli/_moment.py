"""A point in time, as people write it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from ..exceptions import ConfigurationError

_AGO = re.compile(r"(\d{1,6}) (second|minute|hour|day|week)s? ago")


def moment(text: str) -> datetime:
    """
    Return the point in time that *text* names, with its time zone.

    :param text: in ISO 8601, in the local time zone where it names none; or ``2 hours ago``
    :raises ConfigurationError: if it is neither
    """
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago is not None:
            return datetime.now(UTC) - timedelta(**{f"{ago[2]}s": int(ago[1])})

        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError, OSError) as exc:
        raise ConfigurationError(
            f"{text!r} is no point in time. Write 2026-11-22, 2026-11-22T10:00 or 2 hours ago."
        ) from exc
