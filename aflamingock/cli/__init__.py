"""The command line: ``aflamingock``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

_EXTRA = {"click", "rich", "typer"}


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a command.

    :param arguments: what follows the name of the program; ``None`` for those of this process
    :return: the exit code
    """
    try:
        from ._app import run
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in _EXTRA:
            raise

        print(
            f"The command line needs {exc.name}, which is not installed. "
            "Install it with: python3 -m pip install 'aflamingock[cli]'",
            file=sys.stderr,
        )
        return 2

    return run(sys.argv[1:] if arguments is None else list(arguments))
