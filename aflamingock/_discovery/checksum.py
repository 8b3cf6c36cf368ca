"""
What the code of a change comes to, whatever its layout and the version of Python.

The checksum is taken over the syntax trees of ``execute``, ``rollback`` and ``verify`` and of
what they reach: members of their class and names of their module. Comments, docstrings and
layout do not count. The walk is our own, as what :func:`ast.dump` and :func:`ast.unparse` return
differs from one Python to the next.
"""

from __future__ import annotations

import ast
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from types import FunctionType

from .module import text_of
from .syntax import DEFINITIONS, Part, Piece, bound_by, read_piece

_Parts = tuple[Part, ...]
_Scope = Mapping[str, Sequence[_Parts]]
_Reached = tuple[str, str]

_VERSION = "1"
_METHODS = ("execute", "rollback", "verify")
_WHOLE_CLASS: _Reached = ("class", "")
_BLOCKS = ("cases", "finalbody", "orelse", "handlers", "body")
_SELF = frozenset({"self", "cls"})


def checksum_of(declared: type) -> str | None:
    """
    Return the checksum of the methods of a change.

    :return: the version of the algorithm, a colon and a SHA-256; ``None`` without source
    """
    source = ModuleSource.of(declared)
    return source.checksum_of(declared) if source else None


class ModuleSource:
    """
    The syntax tree of a module, parsed once for all changes in it.

    :raises SyntaxError: if the source does not parse
    :raises ValueError: if it is no text
    """

    def __init__(self, text: bytes) -> None:
        self._tree = _parse(text)
        self._classes: dict[int, dict[str, list[ast.AST]]] = {}
        self._scopes: dict[int, _Scope] = {}
        self._pieces: dict[int, Piece] = {}
        self._found: dict[type, tuple[ast.ClassDef, Sequence[_Scope]] | None] = {}
        self._lines: defaultdict[str, list[int]] = defaultdict(list)
        for node in self._tree.body:
            if isinstance(node, ast.ClassDef):
                self._lines[node.name].append(node.lineno)

    @classmethod
    def of(cls, declared: type) -> ModuleSource | None:
        """Read the module of a class; ``None`` if there is nothing that can be read."""
        try:
            text = text_of(declared.__module__)
            return None if text is None else cls(text)
        except (OSError, SyntaxError, ValueError, RecursionError):
            return None

    def lines_of(self, name: str) -> Sequence[int]:
        """Return where classes of that name begin at the top level; the last of them stands."""
        return self._lines.get(name, ())

    def line_of(self, declared: type) -> int | None:
        """Return where the definition of a class begins."""
        found = self._find(declared)
        return found and found[0].lineno

    def checksum_of(self, declared: type) -> str | None:
        """Return the checksum of a class; ``None`` if its definition is not found here."""
        found = self._find(declared)
        if found is None:
            return None

        texts = self._reach(*found)
        canonical = "\n".join(f"{kind} {name} {texts[kind, name]}" for kind, name in sorted(texts))
        return f"{_VERSION}:{hashlib.sha256(canonical.encode()).hexdigest()}"

    def _reach(self, node: ast.ClassDef, scopes: Sequence[_Scope]) -> dict[_Reached, str]:
        members = _bindings(node.body)
        texts: dict[_Reached, str] = {}
        waiting = [("member", name) for name in _METHODS if name in members]
        if "execute" not in members:
            waiting.append(_WHOLE_CLASS)

        while waiting:
            reached = kind, name = waiting.pop()
            if reached in texts:
                continue

            if reached == _WHOLE_CLASS:
                pieces = [read_piece(("(", *node.bases, *node.keywords, ")"))]
                waiting.extend(("member", member) for member in members)
            elif kind == "member":
                pieces = [read_piece(parts) for parts in members[name]]
            else:
                pieces = self._look_up(name, scopes)

            texts[reached] = "".join(piece.text for piece in pieces)
            for piece in pieces:
                waiting.extend(_next(piece, kind, node.name, members))

        return {reached: text for reached, text in texts.items() if text}

    def _look_up(self, name: str, scopes: Sequence[_Scope]) -> list[Piece]:
        for wanted in (name, "*"):
            for scope in scopes:
                if wanted in scope:
                    return [self._piece(parts) for parts in scope[wanted]]

        return []

    def _piece(self, parts: _Parts) -> Piece:
        if id(parts) not in self._pieces:
            self._pieces[id(parts)] = read_piece(parts)

        return self._pieces[id(parts)]

    def _find(self, declared: type) -> tuple[ast.ClassDef, Sequence[_Scope]] | None:
        if declared not in self._found:
            self._found[declared] = self._look_for(declared)

        return self._found[declared]

    def _look_for(self, declared: type) -> tuple[ast.ClassDef, Sequence[_Scope]] | None:
        found: list[tuple[ast.AST, Sequence[_Scope]]] = [(self._tree, ())]
        for name in declared.__qualname__.replace(".<locals>", "").split("."):
            found = [
                (inner, self._scopes_in(outer, scopes))
                for outer, scopes in found
                for inner in self._definitions(outer).get(name, ())
            ]

        classes = [(node, scopes) for node, scopes in found if isinstance(node, ast.ClassDef)]
        lines = [
            member.__code__.co_firstlineno
            for member in vars(declared).values()
            if isinstance(member, FunctionType) and len(classes) > 1
        ]
        for node, scopes in classes:
            if any(node.lineno <= line <= (node.end_lineno or 0) for line in lines):
                return node, scopes

        return classes[-1] if classes else None

    def _scopes_in(self, node: ast.AST, scopes: Sequence[_Scope]) -> Sequence[_Scope]:
        if isinstance(node, ast.ClassDef):  # its names are not seen by the methods in it
            return scopes

        if id(node) not in self._scopes:
            self._scopes[id(node)] = _bindings(getattr(node, "body", []))

        return (self._scopes[id(node)], *scopes)

    def _definitions(self, outer: ast.AST) -> Mapping[str, Sequence[ast.AST]]:
        if id(outer) not in self._classes:
            found: defaultdict[str, list[ast.AST]] = defaultdict(list)
            waiting = _blocks(outer)
            while waiting:
                node = waiting.pop()
                if isinstance(node, DEFINITIONS):
                    found[node.name].append(node)
                else:
                    waiting.extend(_blocks(node))

            self._classes[id(outer)] = found

        return self._classes[id(outer)]


def _parse(text: bytes) -> ast.Module:
    try:
        return ast.parse(text)
    except SystemError:  # Python 3.11, when another thread parses as well: once more, then
        return ast.parse(text)


def _blocks(node: ast.AST) -> list[ast.AST]:
    """Return the statements in a statement, and the branches that have some, the last one first."""
    return [inner for name in _BLOCKS for inner in reversed(getattr(node, name, ()))]


def _next(
    piece: Piece, kind: str, class_name: str, members: Mapping[str, object]
) -> Iterator[_Reached]:
    """Yield what a piece of code reaches; the whole class where that cannot be told."""
    for name in piece.free:
        if kind != "name" and name in members:
            yield ("member", name)

        yield ("name", name) if name != class_name else _WHOLE_CLASS

    if kind == "member":
        if not piece.bare.isdisjoint({*_SELF, "super"}):
            yield _WHOLE_CLASS

        for owner, attribute in piece.attributes:
            if owner in _SELF:
                yield ("member", attribute) if attribute in members else _WHOLE_CLASS


def _bindings(body: Sequence[ast.stmt]) -> _Scope:
    """Return, for each name that statements bind, the code that binds it."""
    found: defaultdict[str, list[_Parts]] = defaultdict(list)
    for guard, statement in _unfolded(body, ()):
        for name, parts in _bound(statement):
            found[name].append((*guard, *parts))

    return found


def _unfolded(body: Sequence[ast.stmt], guard: _Parts) -> Iterator[tuple[_Parts, ast.stmt]]:
    for statement in body:
        if isinstance(statement, ast.If):
            yield from _unfolded(statement.body, (*guard, "if ", statement.test))
            yield from _unfolded(statement.orelse, (*guard, "else ", statement.test))
        elif isinstance(statement, ast.Try | ast.TryStar):
            yield from _unfolded(statement.body + statement.orelse, (*guard, "try "))
            yield from _unfolded(statement.finalbody, guard)
            for handler in statement.handlers:
                kind = (handler.type,) if handler.type else ()
                yield from _unfolded(handler.body, (*guard, "except ", *kind))
        else:
            yield guard, statement


def _bound(statement: ast.stmt) -> Iterator[tuple[str, _Parts]]:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        module = getattr(statement, "module", None)
        for alias in statement.names:
            name = alias.asname or alias.name.partition(".")[0]
            yield name, (f"import {module!a} {getattr(statement, 'level', 0)} ", alias)
    elif isinstance(statement, DEFINITIONS):
        yield statement.name, (statement,)
    elif isinstance(statement, ast.Assign):
        names = {name for target in statement.targets for name in _stored(target)}
        yield from ((name, (statement,)) for name in names)
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
        yield from ((name, (statement,)) for name in _stored(statement.target))
    elif not isinstance(statement, ast.Expr):
        yield from ((name, (statement,)) for name in set(_stored(statement)))


def _stored(target: ast.AST) -> Iterator[str]:
    for node in ast.walk(target):
        name = bound_by(node)
        if name:
            yield name
        elif not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            while isinstance(node, ast.Attribute | ast.Subscript):
                node = node.value

            if isinstance(node, ast.Name):
                yield node.id
