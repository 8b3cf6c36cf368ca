"""The file of a new change."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

from .._change import order_in_name
from .._host import user_name
from ..exceptions import ConfigurationError
from ._load import location
from ._settings import Settings

_TEMPLATE = '''\
"""{title}."""

from aflamingock import change


@change(id={id}, author={author}{target})
class {name}:
    """{title}."""

    async def execute(self) -> None:
        raise NotImplementedError("write what the change does")

    async def rollback(self) -> None:
        raise NotImplementedError("write what takes it back")
'''
_WIDTH = 4


def new_change(
    settings: Settings, *, name: str, author: str | None, target_system: str | None
) -> Path:
    """
    Write a new change, with the order after the last one in its folder.

    :param name: what it does, in words
    :param author: ``None`` for the user of this process
    :return: the file, which was not there before
    :raises ConfigurationError: if it cannot be written
    """
    words = re.findall(r"[A-Za-z0-9]+", name)
    if not words or not words[0][0].isalpha():
        raise ConfigurationError(f"{name!r} makes no name: begin with a letter from a to z.")

    folder = _folder(settings)
    slug = "_".join(words).lower()
    if file := next(folder.glob(f"_*_{slug}.py"), None):
        raise ConfigurationError("There is a change of this name.", file=str(file))

    path = folder / f"_{_next_order(folder)}__{slug}.py"
    text = _TEMPLATE.format(
        title=" ".join(words).capitalize(),
        id=json.dumps("-".join(words).lower()),
        author=json.dumps(author or user_name()),
        target=f", target_system={json.dumps(target_system)}" if target_system else "",
        name="".join(word.capitalize() for word in words),
    )
    try:
        with path.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as exc:
        raise ConfigurationError(f"It cannot be written: {exc}.", file=str(path)) from exc

    return path


def _folder(settings: Settings) -> Path:
    if not settings.changes:
        raise ConfigurationError(
            "Where do the changes go? Give --changes FOLDER, or say it in [tool.aflamingock] of "
            "pyproject.toml."
        )

    place = location(settings.changes)
    if isinstance(place, Path):
        return place

    try:
        spec = find_spec(place)
    except (ImportError, ValueError):
        spec = None

    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(f"There is no folder and no package {place!r}.")

    return Path(next(iter(spec.submodule_search_locations)))


def _next_order(folder: Path) -> str:
    stems = (path.stem for path in folder.iterdir() if path.suffix in (".py", ".yaml", ".yml"))
    orders = [order for stem in stems if (order := order_in_name(stem)) is not None]
    last = max(orders, default="0" * _WIDTH)
    following = str(int(last) + 1).zfill(len(last)) if last.isdecimal() else ""
    if len(following) != len(last):
        raise ConfigurationError(
            f"What comes after order {last!r}? Name the file by hand: _ORDER__NAME.py.",
            file=str(folder),
        )

    return following
