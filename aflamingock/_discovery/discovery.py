"""Find the changes of a pipeline, and tell whether its files are the same as before."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from typing import Any

from .._change import Change, Declaration, as_texts, declaration_of, is_texts, order_in_name
from .._pipeline import LoadedStage, Location, Pipeline, Stage, pipeline_faults, stages_before
from ..exceptions import ChangeLoadError, ConfigurationError
from .checksum import ModuleSource
from .fault import method_faults, value_faults
from .location import SourceFile, find_files, shown_path
from .module import import_fault, import_file

_DIGEST_VERSION = b"aflamingock pipeline 1"


def read_pipeline(
    stages: Sequence[Stage], *, profiles: Collection[str], targets: Collection[str]
) -> tuple[Pipeline, list[ConfigurationError]]:
    """
    Import the changes of all stages, and return what could be read with everything that is wrong.

    Synchronous: it reads files and runs the modules that they hold. Where there are faults the
    pipeline is only good for finding more of them: it lacks the changes whose methods cannot be
    called, and target systems may be unknown.

    :param profiles: the active profiles
    :param targets: the ids of the known target systems
    """
    importlib.invalidate_caches()  # files may have been written since the last look
    reader = _Reader()
    found = [
        [change for location in stage.locations for change in reader.read(location)]
        for stage in stages
    ]
    everything = _pipeline(stages, found, profiles)
    usable = [[change for change in changes if change.cls not in reader.bad] for changes in found]
    faults = [
        *reader.file_faults,
        *reader.change_faults,
        *pipeline_faults(everything, stages, targets),
    ]
    # A file that two stages lead to is read twice.
    return _pipeline(stages, usable, profiles), list({str(each): each for each in faults}.values())


def _pipeline(
    stages: Sequence[Stage], found: Sequence[Sequence[Change]], profiles: Collection[str]
) -> Pipeline:
    wanted = frozenset(profiles)
    active = [
        [
            change
            for change in changes
            if not (change.profiles and wanted.isdisjoint(change.profiles))
        ]
        for changes in found
    ]
    ids = {change.id for changes in found for change in changes}
    return Pipeline(
        stages=tuple(
            LoadedStage(
                name=stage.name,
                changes=tuple(sorted(active[position], key=lambda change: change.order)),
                after=stages_before(stages, position),
            )
            for position, stage in enumerate(stages)
        ),
        inactive=frozenset(ids.difference(change.id for changes in active for change in changes)),
    )


def pipeline_digest(stages: Sequence[Stage], *, settings: Mapping[str, object]) -> str | None:
    """
    Return a digest of the files of a pipeline, of its stages and of some settings.

    Synchronous. It imports no module at or below a location.

    :param settings: JSON values on which the outcome of a run depends
    :return: a SHA-256; ``None`` if a location cannot be found or a class has no source
    """
    digest = hashlib.sha256()
    try:
        for part in _digested(stages, settings):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    except (ConfigurationError, OSError):  # loading the changes will find it, and tell
        return None

    return digest.hexdigest()


def _digested(stages: Sequence[Stage], settings: Mapping[str, object]) -> Iterator[bytes]:
    yield _DIGEST_VERSION
    yield json.dumps(dict(settings), sort_keys=True).encode()
    for position, stage in enumerate(stages):
        yield json.dumps(["stage", stage.name, stages_before(stages, position)]).encode()
        for location in stage.locations:
            if isinstance(location, type):
                yield from _digested_class(location)
            else:
                for file in find_files(location):
                    yield file.name.encode(errors="surrogatepass")
                    yield Path(file.path).read_bytes()


def _digested_class(declared: type) -> Iterator[bytes]:
    path = _path_of(declared)
    if path is None or path.endswith((*BYTECODE_SUFFIXES, *EXTENSION_SUFFIXES)):
        raise ConfigurationError(f"{declared.__qualname__} has no source.")

    given = declaration_of(declared)
    # One definition in a function makes many classes, which differ in what they are given.
    values = [getattr(given, each.name, None) for each in fields(Declaration)]
    shown = [repr(as_texts(value) if is_texts(value) else value) for value in values]
    yield json.dumps([declared.__module__, declared.__qualname__, *shown]).encode()
    yield Path(path).read_bytes()


class _Reader:
    """
    Reads locations, and collects what is wrong there.

    :ivar bad: the classes whose methods cannot be called
    """

    def __init__(self) -> None:
        self.file_faults: list[ConfigurationError] = []
        self.change_faults: list[ConfigurationError] = []
        self.bad: set[type] = set()
        self._seen: set[type] = set()
        self._broken: list[str] = []
        self._latest: tuple[str, ModuleSource | None] = ("", None)

    def read(self, location: Location) -> list[Change]:
        if isinstance(location, type):
            return self._listed(location)

        try:
            files = find_files(location)
        except ConfigurationError as fault:
            self.file_faults.append(fault)
            return []

        return [change for file in files for change in self._changes_in(file)]

    def _listed(self, declared: type) -> list[Change]:
        if declaration_of(declared):
            return [self._change(declared, _file_of(declared))]

        self.change_faults.append(
            ChangeLoadError(
                f"Location {declared.__qualname__} of {declared.__module__} is no change. "
                "Decorate the class with @change(...)."
            )
        )
        return []

    def _changes_in(self, file: SourceFile) -> list[Change]:
        if any(file.module.startswith(f"{package}.") for package in self._broken):
            return []

        module = self._import(file)
        if module is None:
            return []

        found = {
            id(value): value
            for value in vars(module).values()
            if declaration_of(value) and value.__module__ == module.__name__
        }
        self.file_faults.extend(self._file_faults(file, tuple(found.values())))
        return [self._change(value, file) for value in found.values() if isinstance(value, type)]

    def _import(self, file: SourceFile) -> ModuleType | None:
        try:
            return import_file(file)
        except (Exception, SystemExit) as exc:  # one broken file must not hide the others
            self.file_faults.append(import_fault(exc, file))
            if file.stem == "__init__":
                self._broken.append(file.module)

            return None

    def _file_faults(self, file: SourceFile, found: Sequence[Any]) -> Iterator[ChangeLoadError]:
        shown = shown_path(file.path)
        order = order_in_name(file.stem)
        if order is not None and len(found) != 1:
            names = ", ".join(value.__qualname__ for value in found)
            declared = f"{len(found)} changes: {names}" if found else "no change"
            yield ChangeLoadError(
                f"The file's name gives the order {order!r}, but it declares {declared}. Let it "
                "have one class with @change(...), or another name.",
                file=shown,
            )

        for value in found:
            if not isinstance(value, type):
                yield ChangeLoadError(
                    f"{value.__qualname__} is a function with @change(...). Make it a class with a "
                    "method execute.",
                    file=shown,
                    line=value.__code__.co_firstlineno,
                )
                continue

            source = self._source_of(value)
            lines = source.lines_of(value.__name__) if source else ()
            if len(lines) > 1:
                yield ChangeLoadError(
                    f"{value.__name__} is defined {len(lines)} times, so that only the last one "
                    "stands. Rename the others.",
                    file=shown,
                    line=lines[0],
                )

    def _change(self, declared: type, file: SourceFile | None) -> Change:
        declaration = declaration_of(declared)
        assert declaration is not None
        source = self._source_of(declared)
        line = source.line_of(declared) if source else None
        shown = shown_path(file.path) if file else None
        order = order_in_name(file.stem) if file else None
        faults = method_faults(declared, file=shown, line=line)
        if declared not in self._seen:
            self._seen.add(declared)
            self.change_faults += value_faults(
                declared, declaration, order_in_file=order, file=shown, line=line
            )
            self.change_faults += faults

        if faults:
            self.bad.add(declared)

        return Change.from_declaration(
            declared,
            declaration,
            order=order or str(declaration.order or ""),
            module=file.module if file else declared.__module__,
            file=shown,
            line=line,
            source=file.name if file else None,
            checksum=source.checksum_of(declared) if source else None,
        )

    def _source_of(self, declared: type) -> ModuleSource | None:
        # Only the latest is kept: the changes of a module come one after the other, and trees are
        # large.
        name = declared.__module__
        if self._latest[0] != name:
            self._latest = (name, ModuleSource.of(declared))

        return self._latest[1]


def _path_of(declared: type) -> str | None:
    return getattr(sys.modules.get(declared.__module__), "__file__", None)


def _file_of(declared: type) -> SourceFile | None:
    """Return the file of a class that was listed by hand."""
    path = _path_of(declared)
    if path is None:
        return None

    name = declared.__module__.replace(".", "/")
    if os.path.basename(path) == "__init__.py":
        name += "/__init__"

    return SourceFile(path=os.path.abspath(path), name=f"{name}.py")
