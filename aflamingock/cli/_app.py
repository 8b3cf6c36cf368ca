"""The program: its options, its commands, and what it makes of a mistyped line."""

from __future__ import annotations

import inspect
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

from .._payload import redacted
from ._audit import audit, issue, lock, store
from ._changes import changes
from ._command import describe
from ._errors import FAILED, USAGE
from ._output import show_document
from ._settings import SHARED, Settings

# typer has brought its own copy of click since 0.26; only this subclass has a public name.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]


def run(arguments: list[str]) -> int:
    """
    Run the command that *arguments* name.

    :return: the exit code
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not in UTF-8

    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has seen enough; nothing is left to flush at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED

    return code


def _run(arguments: list[str]) -> int:
    try:
        return program(arguments, prog_name="aflamingock", standalone_mode=False) or 0
    except _UsageError as exc:
        return _mistyped(exc, as_json="--json" in arguments)


def _mistyped(exc: Any, *, as_json: bool) -> int:
    exc.message = redacted(exc.message)  # a URL at the wrong place may hold a password
    if as_json:
        error = {"type": "UsageError", "message": exc.format_message(), "exitCode": USAGE}
        show_document({"error": error})
    else:
        exc.show()

    return USAGE


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            print(f"aflamingock {version('aflamingock')}")
        except PackageNotFoundError:  # run from a checkout
            print("aflamingock, not installed")

        raise typer.Exit


def _root(context: typer.Context, *, version: bool, **values: Any) -> None:
    """Run versioned changes exactly once and in order, and read what was run."""
    context.obj = Settings(**values)


_VERSION = typer.Option(
    "--version", callback=_show_version, is_eager=True, help="Print the version."
)
describe(
    _root,
    [
        inspect.Parameter(
            "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
        ),
        inspect.Parameter(
            "version",
            inspect.Parameter.KEYWORD_ONLY,
            default=False,
            annotation=Annotated[bool, _VERSION],
        ),
        *SHARED,
    ],
)

program = typer.Typer(
    callback=_root,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
program.add_typer(changes)
program.add_typer(store)
program.add_typer(audit, name="audit")
program.add_typer(issue, name="issue")
program.add_typer(lock, name="lock")
