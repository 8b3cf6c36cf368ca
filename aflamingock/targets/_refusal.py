"""What more than one target system refuses, in the same words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..exceptions import ConfigurationError, LockLostError


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """
    What the repositories in a database may be called.

    :ivar form: what a name has to match
    :ivar told: the same in words, as the rest of the sentence "'x' cannot name …"
    :ivar without_case: why names that differ in capitals only are one; empty where they are two
    """

    form: re.Pattern[str]
    told: str
    without_case: str = ""

    def __call__(self, *names: str) -> None:
        """
        Check names, which no statement can be given as parameters.

        :raises ConfigurationError: if one is no name, or two are the same
        """
        for name in names:
            if not self.form.fullmatch(name):
                raise ConfigurationError(f"{name!r} cannot name {self.told}")

        reason = f" ({self.without_case})" if self.without_case else ""
        if len({name.lower() if reason else name for name in names}) < len(names):
            raise ConfigurationError(
                f"The repositories {', '.join(map(repr, names))} must have different names{reason}."
            )


def claimed_error(change_id: str) -> LockLostError:
    """Return the error for a transaction whose marker somebody else has claimed."""
    return LockLostError(
        f"Another runner has claimed this attempt of change {change_id!r}: its transaction is "
        "rolled back."
    )
