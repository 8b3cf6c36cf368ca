"""The command line: ``aflamingock``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

__all__ = ["main"]

_EXTRA = {"click", "rich", "typer"}
_INTERRUPTED = 130
_STDERR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a command.

    :param arguments: what follows the name of the program; ``None`` for those of this process
    :return: the exit code
    """
    if arguments is not None:
        return _run(list(arguments))

    # Before a command is begun, and after it is done, there is nothing to end in order.
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)

    return _run(sys.argv[1:])


def _leave(number: int, frame: FrameType | None) -> None:
    try:
        os.write(_STDERR, b"\nInterrupted.\n")
    finally:  # also if nobody reads any more
        os._exit(_INTERRUPTED)


def _run(arguments: list[str]) -> int:
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

    return run(arguments)
