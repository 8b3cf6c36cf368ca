"""The command line: ``aflamingock``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

__all__ = ["main", "run_process"]

_EXTRA = {"click", "rich", "typer"}
_INTERRUPTED = 130
_STDERR = 2


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


def run_process() -> int:
    """
    Run the command of this process, of which nothing is left to do afterwards.

    :return: the exit code
    """
    # Before a command is begun, and after it is done, there is nothing to end in order.
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _leave)
    except KeyboardInterrupt:  # `signal.signal` first answers what came before
        _leave(signal.SIGINT, None)

    return main()


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    try:
        os.write(_STDERR, b"\nInterrupted.\n")
    finally:  # also if nobody reads any more
        os._exit(_INTERRUPTED)
