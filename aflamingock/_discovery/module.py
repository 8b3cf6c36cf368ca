"""Import one file of changes, and say what went wrong in it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType

from .._payload import redacted
from ..exceptions import ChangeLoadError
from .location import SourceFile, shown_path

_TEXT = "__flamingock_text__"


def import_file(file: SourceFile) -> ModuleType:
    """
    Import a file: by its dotted name if it has one, else under a name made from its path.

    A file without a dotted name is run again only if its text is another one.

    :raises Exception: whatever the file raises
    :raises ImportError: if its dotted name leads to another file
    """
    if not file.importable:
        return _run_file(file)

    module = importlib.import_module(file.module)
    found = module.__file__
    if found != file.path and not (found and os.path.samefile(found, file.path)):
        raise ImportError(f"{file.module!r} leads to {found} instead; rename one of the two")

    return module


def text_of(name: str) -> bytes | None:
    """
    Return the text of an imported module: what was run if we ran it, else what its file holds.

    :return: ``None`` if it has no file
    :raises OSError: if the file cannot be read
    """
    module = sys.modules.get(name)
    text: bytes | None = getattr(module, _TEXT, None)
    file = getattr(module, "__file__", None)
    return Path(file).read_bytes() if file and text is None else text


def import_fault(exc: BaseException, file: SourceFile) -> ChangeLoadError:
    """Return the fault of a file that raised *exc* when it was imported."""
    shown = shown_path(file.path)
    if isinstance(exc, SyntaxError) and exc.filename == file.path:
        fault = ChangeLoadError(
            f"The file does not parse: {exc.msg}. Correct it.", file=shown, line=exc.lineno
        )
    else:
        lines = [
            line
            for frame, line in traceback.walk_tb(exc.__traceback__)
            if frame.f_code.co_filename == file.path
        ]
        said = redacted(traceback.format_exception_only(exc)[-1].strip()).removesuffix(".")
        fault = ChangeLoadError(
            f"Importing the file raised {said}. {_next_step(exc)}",
            file=shown,
            line=lines[-1] if lines else None,
        )

    fault.__cause__ = exc
    return fault


def _run_file(file: SourceFile) -> ModuleType:
    name = _name_of(file)
    text = Path(file.path).read_bytes()
    known = sys.modules.get(name)
    if known is not None and getattr(known, _TEXT, None) == text:
        return known

    spec = importlib.util.spec_from_file_location(name, file.path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pickle and get_type_hints look for classes there
    try:
        exec(compile(text, file.path, "exec", dont_inherit=True), vars(module))
    except BaseException:
        sys.modules.pop(name, None)
        raise

    setattr(module, _TEXT, text)  # only now: another thread must not take it half run
    return module


def _name_of(file: SourceFile) -> str:
    digest = hashlib.sha256(os.fsencode(file.path)).hexdigest()[:16]
    name = f"aflamingock_{digest}_{re.sub(r'[^A-Za-z0-9_]', '_', file.stem)}"
    return f"{file.package}.{name}" if file.package else name


def _next_step(exc: BaseException) -> str:
    if isinstance(exc, ImportError) and "relative import" in str(exc):
        return "In a folder, import by full names; or give the location as a package's name."

    return "Correct the file, or what it imports."
