"""The files at a location, found without importing any of them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec

from .._payload import error_line
from ..exceptions import ConfigurationError

_PACKAGE_FILE = "__init__.py"
_NO_CHANGES = frozenset({"conftest.py", "__main__.py"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """
    A file that may hold changes.

    :ivar path: where it is
    :ivar name: its path from the top package or the folder on, the same on every machine
    :ivar package: what it is part of, if it was found in a package
    :ivar importable: whether ``import`` can find it by :attr:`module`
    """

    path: str
    name: str
    package: str | None = None
    importable: bool = False

    @property
    def module(self) -> str:
        """Its dotted name, the same on every machine."""
        return self.name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def stem(self) -> str:
        """Its name without folders and without ``.py``."""
        return self.name.rpartition("/")[2].removesuffix(".py")


def find_files(location: str | os.PathLike[str]) -> list[SourceFile]:
    """
    Return the files at a location and below, those of a package's own first.

    Only the packages above the location are imported. Hidden files and folders, tests and
    programs (``test_*.py``, ``conftest.py``, ``__main__.py``) are no part of it.

    :raises ConfigurationError: if there is no such package, module or folder
    """
    if isinstance(location, os.PathLike) or "/" in location or os.sep in location:
        return _files_in_folder(location)

    spec = _find_spec(location)
    if spec is not None:
        return _files_of(spec)

    if os.path.isdir(location):
        return _files_in_folder(location)

    raise ConfigurationError(
        f"Location {location!r} is neither a package or module that can be imported nor a folder. "
        "Is it installed, and is the folder that it is in on sys.path?"
    )


def shown_path(path: str) -> str:
    """Return a path as a person wants it: from the working directory on, if it is below."""
    try:
        return path.removeprefix(os.path.join(os.getcwd(), ""))
    except OSError:  # there is no working directory any more
        return path


def _find_spec(location: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(location)
    except (Exception, SystemExit) as exc:  # the packages above are user code: it may do anything
        name = getattr(exc, "name", None)
        if isinstance(exc, ModuleNotFoundError) and name and f"{location}.".startswith(f"{name}."):
            return None

        raise ConfigurationError(
            f"Location {location!r} cannot be looked for: {error_line(exc).removesuffix('.')}. "
            "Correct the name, or the package above it."
        ) from exc


def _files_of(spec: ModuleSpec) -> list[SourceFile]:
    base = spec.name.replace(".", "/")
    if spec.submodule_search_locations is not None:
        return [
            SourceFile(
                path=path,
                name="/".join((base, *parts)),
                package=spec.name,
                importable=not any("." in part.removesuffix(".py") for part in parts),
            )
            for folder in _once(spec.submodule_search_locations)
            for path, parts in _walk(folder)
        ]

    if spec.origin and spec.origin.endswith(".py"):
        return [
            SourceFile(
                path=spec.origin, name=f"{base}.py", package=spec.parent or None, importable=True
            )
        ]

    raise ConfigurationError(
        f"Location {spec.name!r} has no Python source: it is {spec.origin}. Give a package or a "
        "module of .py files."
    )


def _once(folders: Iterable[str]) -> Iterable[str]:
    """Return the folders of a package, each once: ``sys.path`` may lead to one by two ways."""
    found: dict[str, str] = {}
    for folder in folders:
        found.setdefault(os.path.realpath(folder), folder)

    return found.values()


def _files_in_folder(location: str | os.PathLike[str]) -> list[SourceFile]:
    folder = os.path.abspath(location)
    if os.path.isfile(folder):
        raise ConfigurationError(
            f"Location {str(location)!r} is a file. Give the folder that it is in."
        )

    top = os.path.basename(folder)
    return [SourceFile(path=path, name="/".join((top, *parts))) for path, parts in _walk(folder)]


def _walk(folder: str) -> list[tuple[str, tuple[str, ...]]]:
    try:
        return list(_walk_below(folder, (), {os.path.realpath(folder)}))
    except OSError as exc:
        raise ConfigurationError(
            f"Folder {shown_path(folder)!r} cannot be read: {exc.strerror or exc}. Give a folder "
            "that exists and may be read."
        ) from exc


def _walk_below(
    folder: str, above: tuple[str, ...], seen: set[str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: (entry.name != _PACKAGE_FILE, entry.name))

    for entry in entries:
        name = entry.name
        if name.startswith(".") or name == "__pycache__":
            continue

        if not entry.is_dir():
            if name.endswith(".py") and not (name in _NO_CHANGES or name.startswith("test_")):
                yield entry.path, (*above, name)

            continue

        real = os.path.realpath(entry.path)
        if real not in seen:  # a link may lead back up
            seen.add(real)
            yield from _walk_below(entry.path, (*above, name), seen)
