"""From the options of a command to the Flamingock that it works on."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import reduce
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from .._flamingock import Flamingock
from .._payload import error_line
from ..exceptions import ConfigurationError
from ._settings import STORE_VARIABLE, Settings
from ._store import store_at

_HOW = (
    "Give --app MODULE:NAME, or --changes FOLDER --store sqlite:///audit.db, or say "
    'app = "MODULE:NAME" in [tool.aflamingock] of pyproject.toml. '
    f"{STORE_VARIABLE} in the environment stands for --store."
)

Source = Callable[[], Any]
"""Called in the event loop, it returns the Flamingock, or something to await or enter for it."""


def find(settings: Settings, *, with_changes: bool) -> Source:
    """
    Find out where the Flamingock of a command comes from, and import that.

    :param with_changes: whether the command needs the changes, and not only the audit store
    :raises ConfigurationError: if it cannot be found
    """
    if settings.app:
        return _find_app(settings)

    if not settings.store:
        raise ConfigurationError(f"No audit store is named. {_HOW}")

    if with_changes and not settings.changes:
        raise ConfigurationError(f"No changes are named. {_HOW}")

    _make_importable(settings)
    store = store_at(settings.store)
    changes = [location(settings.changes)] if settings.changes else []
    return lambda: Flamingock(
        changes=changes, audit_store=store, service=settings.service or "default"
    )


@asynccontextmanager
async def loaded(source: Source) -> AsyncIterator[Flamingock]:
    """
    Lend the Flamingock that *source* stands for, not opened.

    :raises ConfigurationError: if it is something else
    """
    found = source()
    if inspect.isawaitable(found):
        found = await found

    async with AsyncExitStack() as stack:
        if isinstance(found, AbstractAsyncContextManager) and not isinstance(found, Flamingock):
            found = await stack.enter_async_context(found)

        if not isinstance(found, Flamingock):
            raise ConfigurationError(f"--app: {_no_flamingock(found)}")

        yield found


def location(text: str) -> str | Path:
    """
    Return where changes are: a folder if there is one of that name, else a package.

    :raises ConfigurationError: if it looks like a folder, and there is none
    """
    folder = Path(text)
    if folder.is_dir():
        return folder

    if "/" in text or os.sep in text or text.startswith("."):
        raise ConfigurationError(f"There is no folder {text!r} to look for changes in.")

    return text


def _find_app(settings: Settings) -> Source:
    app = settings.app or ""
    if settings.changes or settings.store or settings.service:
        raise ConfigurationError(
            "--app stands for itself: leave out --changes, --store and --service."
        )

    module_name, colon, name = app.partition(":")
    if not (colon and module_name and name) or "/" in module_name:
        raise ConfigurationError(f"--app {app!r}: give MODULE:NAME, as in shop.main:flamingock.")

    _make_importable(settings)
    module = _import(module_name)
    try:
        found: Any = reduce(getattr, name.split("."), module)
    except AttributeError as exc:
        raise ConfigurationError(
            f"--app: module {module_name!r} has no {name!r}.{_those_of(module)}"
        ) from exc

    if not isinstance(found, Flamingock) and not _can_be_called(found):
        raise ConfigurationError(f"--app {app!r}: {_no_flamingock(found)}")

    return lambda: found() if callable(found) else found


def _those_of(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Flamingock)]
    return f" It has {', '.join(map(repr, names))}." if names else ""


def _can_be_called(found: object) -> bool:
    try:
        inspect.signature(found).bind()  # type: ignore[arg-type]  # a TypeError is an answer
    except (TypeError, ValueError):
        return False

    return True


def _no_flamingock(found: object) -> str:
    return (
        f"name a Flamingock, or what returns one, or an async context manager of one, when it is "
        f"called without arguments; this is a {type(found).__name__}."
    )


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{name}.".startswith(f"{exc.name}."):
            raise _not_imported(name, exc) from exc

        raise ConfigurationError(
            f"--app: there is no module {exc.name!r} (looked for from {Path.cwd()})."
        ) from exc
    except Exception as exc:  # whatever the app does while it is imported
        raise _not_imported(name, exc) from exc


def _not_imported(name: str, exc: Exception) -> ConfigurationError:
    said = error_line(exc).removesuffix(".")
    return ConfigurationError(f"--app: module {name!r} cannot be imported: {said}.")


def _make_importable(settings: Settings) -> None:
    for folder in (settings.home, Path.cwd()):
        if folder is not None and str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
