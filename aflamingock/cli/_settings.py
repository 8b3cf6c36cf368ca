"""The options that every command takes, and where they come from."""

from __future__ import annotations

import inspect
import os
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Self

import typer

from .._payload import redacted
from ..exceptions import ConfigurationError
from ._store import SQLITE

STORE_VARIABLE = "AFLAMINGOCK_STORE"
"""The environment variable that stands for ``--store``: it may hold a password."""

_PANEL = "What to work on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    What was said on the command line, in the environment, or in ``[tool.aflamingock]``.

    :ivar home: the folder of the pyproject.toml that was read; modules are imported from there
    :ivar verbose: 1 shows the log and tracebacks, 2 the debug log
    """

    app: str | None = None
    changes: str | None = None
    store: str | None = field(default=None, repr=False)
    service: str | None = None
    as_json: bool = False
    verbose: int = 0
    home: Path | None = None

    def over(self, outer: Settings) -> Settings:
        """Return these settings, with those of *outer* where nothing is said here."""
        return Settings(
            **{
                field.name: getattr(self, field.name) or getattr(outer, field.name)
                for field in fields(self)
            }
        )

    def completed(self) -> Settings:
        """
        Return these settings, or those of the environment and then of pyproject.toml.

        What names an app, changes or a store before pyproject.toml does replaces the project's
        app; an app on the command line replaces the store of the environment.

        :raises ConfigurationError: if pyproject.toml cannot be used
        """
        if self.app:
            return self

        said = replace(self, store=self.store or os.environ.get(STORE_VARIABLE))
        project = _Project.nearest()
        if project is None:
            return said

        told: dict[str, Any] = dict(project.values)
        if said.changes or said.store:
            told.pop("app", None)

        return said.over(Settings(**told, home=project.folder))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Project:
    folder: Path
    values: dict[str, str]

    @classmethod
    def nearest(cls) -> Self | None:
        """Return the table of the first pyproject.toml from here upwards, if it has one."""
        here = Path.cwd()
        for folder in (here, *here.parents):
            file = folder / "pyproject.toml"
            if file.is_file():
                return cls.read(file)

        return None

    @classmethod
    def read(cls, file: Path) -> Self | None:
        """Return the table of a pyproject.toml, if it has one."""
        try:
            document = tomllib.loads(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
            raise ConfigurationError(f"It cannot be read: {exc}.", file=str(file)) from exc

        table = document.get("tool", {}).get("aflamingock")
        if table is None:
            return None

        names = ("app", "changes", "store", "service")
        for name, value in table.items():
            if name not in names or not isinstance(value, str):
                said = redacted(f"{name} = {value!r}")
                raise ConfigurationError(
                    f"[tool.aflamingock] {said}: the table takes {', '.join(names)}, each a text.",
                    file=str(file),
                )

        return cls(folder=file.parent, values=table | _anchored(table, file.parent))


def _anchored(table: dict[str, str], folder: Path) -> dict[str, str]:
    # Relative paths in a file start from the file, those on the command line from where one is.
    anchored = {}
    if (changes := table.get("changes")) and (folder / changes).is_dir():
        anchored["changes"] = str(folder / changes)

    if found := SQLITE.fullmatch(table.get("store", "")):
        anchored["store"] = f"{found['head']}{folder / found['path']}"

    return anchored


def _option(name: str, kind: Any, default: Any, *declarations: str, **told: Any) -> Any:
    option = typer.Option(*declarations, rich_help_panel=_PANEL, **told)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


SHARED: tuple[inspect.Parameter, ...] = (
    _option(
        "app",
        str | None,
        None,
        "--app",
        metavar="MODULE:NAME",
        help="A Flamingock, or what returns one when it is called.",
    ),
    _option(
        "changes",
        str | None,
        None,
        "--changes",
        metavar="FOLDER|PACKAGE",
        help="Where the changes are, if there is no app.",
    ),
    _option(
        "store",
        str | None,
        None,
        "--store",
        metavar="URL",
        help="The audit store, if there is no app: sqlite:///audit.db, postgresql://..., "
        f"mongodb://.../database, dynamodb://region. With a password, say it in {STORE_VARIABLE}.",
    ),
    _option(
        "service",
        str | None,
        None,
        "--service",
        metavar="NAME",
        help='The service in that store ("default" if it is not said).',
    ),
    _option("as_json", bool, False, "--json", help="Print one JSON document."),
    _option(
        "verbose",
        int,
        0,
        "-v",
        "--verbose",
        count=True,
        show_default=False,
        help="Show the log and tracebacks; twice: the debug log.",
    ),
)
