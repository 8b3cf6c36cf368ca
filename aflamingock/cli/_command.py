"""How a coroutine function becomes a command of the command line."""

from __future__ import annotations

import inspect
import logging
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    redirect_stdout,
)
from functools import partial
from typing import Any, Concatenate, ParamSpec

import anyio
import typer

from .._events import Event
from .._flamingock import Flamingock
from .._payload import redacted
from ._errors import Interrupted, document, exit_code, sentence
from ._interruption import until_interrupted
from ._load import Source, find, loaded
from ._output import Answer, complain, printable, show, show_document
from ._progress import progress
from ._report import failure_parts
from ._settings import SHARED, Settings

OptionsT = ParamSpec("OptionsT")

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
_SHARED_NAMES = tuple(option.name for option in SHARED)


class Session:
    """
    What a command works with.

    :ivar settings: the options that every command takes
    """

    def __init__(self, settings: Settings, source: Source | None) -> None:
        self.settings = settings
        self._source = source

    def flamingock(self) -> AbstractAsyncContextManager[Flamingock]:
        """Lend the Flamingock, not opened."""
        assert self._source is not None
        return loaded(self._source)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Flamingock]:
        """Lend the Flamingock, its audit store open."""
        async with self.flamingock() as flamingock, flamingock:
            yield flamingock

    @contextmanager
    def progress(self, flamingock: Flamingock) -> Iterator[None]:
        """Show on the error stream what *flamingock* does."""
        with progress(quiet=self.settings.as_json) as tell:
            flamingock.on(Event, tell)
            yield


Operation = Callable[Concatenate[Session, OptionsT], Awaitable[Answer]]


def command(
    group: typer.Typer, name: str, *, needs: str = "changes"
) -> Callable[[Operation[OptionsT]], Operation[OptionsT]]:
    """
    Make a coroutine function a command that takes the shared options as well as its own.

    :param group: the commands that it is one of
    :param needs: ``"changes"``, ``"store"`` or ``"nothing"``: what must be told by options
    """

    def register(operation: Operation[OptionsT]) -> Operation[OptionsT]:
        def invoke(context: typer.Context, **values: Any) -> int:
            own = {name: values.pop(name) for name in _SHARED_NAMES}
            settings = Settings(**own).over(context.obj)
            return perform(partial(operation, **values), settings, needs=needs)

        first = inspect.Parameter(
            "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
        )
        _, *options = inspect.signature(operation, eval_str=True).parameters.values()
        named = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]
        describe(invoke, [first, *named, *SHARED])
        group.command(name, help=inspect.getdoc(operation))(invoke)
        return operation

    return register


def describe(function: Any, parameters: list[inspect.Parameter]) -> None:
    """Give a function the parameters that typer is to see."""
    function.__signature__ = inspect.Signature(parameters)
    function.__annotations__ = {option.name: option.annotation for option in parameters}


def perform(operation: Callable[[Session], Any], settings: Settings, *, needs: str) -> int:
    """
    Run a command and print its answer, or what ended it.

    :return: the exit code
    """
    try:
        # What the app and its changes print is no result.
        with redirect_stdout(sys.stderr), _logging(settings.verbose):
            settings = settings.completed()
            source = None
            if needs != "nothing":
                source = find(settings, with_changes=needs == "changes")

            session = Session(settings, source)
            answer: Answer = anyio.run(until_interrupted, partial(operation, session))
    except (KeyboardInterrupt, typer.Abort):
        return _fail(Interrupted(), settings)
    except Exception as exc:  # told with its exit code; the log tells more
        return _fail(exc, settings)

    if settings.as_json:
        show_document(answer.document)
    else:
        show(answer)

    return answer.code


def _fail(exc: Exception, settings: Settings) -> int:
    if settings.verbose:
        told = "".join(traceback.format_exception(exc))
        print(printable(redacted(told)), end="", file=sys.stderr)

    if settings.as_json:
        show_document(document(exc))
        return exit_code(exc)

    show(Answer(document={}, parts=failure_parts(exc)))
    complain("error", sentence(exc))
    return exit_code(exc)


class LogHandler(logging.Handler):
    """Writes the log to the error stream of the moment, which a progress bar replaces."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(printable(redacted(self.format(record))), file=sys.stderr)
        except Exception:  # as every handler of the standard library: a log entry ends nothing
            self.handleError(record)


@contextmanager
def _logging(verbose: int) -> Iterator[None]:
    handler = LogHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(_LEVELS[min(verbose, 2)])
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
