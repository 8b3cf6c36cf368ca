"""The canonical form of a piece of code, and the names that it takes from around it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

Part = str | ast.AST

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_INNER: Mapping[type, tuple[str, ...]] = {
    **dict.fromkeys((*DEFINITIONS, ast.Lambda), ("body",)),
    **dict.fromkeys(_COMPREHENSIONS, ("generators", "elt", "key", "value")),
}
_BINDING: Mapping[type, str] = {
    **dict.fromkeys((*DEFINITIONS, ast.alias), "name"),
    **dict.fromkeys((ast.ExceptHandler, ast.MatchAs, ast.MatchStar), "name"),
    ast.MatchMapping: "rest",
}
_OUTER = frozenset({ast.Global, ast.Nonlocal})
_NO_CODE = frozenset({"ctx", "kind", "type_comment"})
_DECLARING = frozenset({"id", "author"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """
    A piece of code.

    :ivar text: its canonical form
    :ivar free: the names that it takes from around it
    :ivar bare: the names that it uses otherwise than for an attribute
    :ivar attributes: the names that it uses for an attribute, with the attribute
    """

    text: str
    free: frozenset[str]
    bare: frozenset[str]
    attributes: frozenset[tuple[str, str]]


def read_piece(parts: Sequence[Part]) -> Piece:
    """
    Return the canonical form of syntax trees, with texts between them as they are.

    Docstrings and other statements that are a text, positions and the declaration of a change
    are left out.
    """
    return _Walk().read(parts)


@dataclass(slots=True)
class _Names:
    """The names of one scope: read, bound, declared global or nonlocal, free in inner scopes."""

    read: set[str] = field(default_factory=set)
    bound: set[str] = field(default_factory=set)
    outer: set[str] = field(default_factory=set)
    inner: set[str] = field(default_factory=set)
    is_class: bool = False

    def free(self) -> set[str]:
        """Return what is not bound here; methods do not see the names of their class."""
        bound = self.bound - self.outer
        if self.is_class:
            return ((self.read | self.outer) - bound) | self.inner

        return (self.read | self.outer | self.inner) - bound


class _Walk:
    """A walk without recursion, as expressions may be nested deeper than Python's stack is."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._scopes = [_Names()]
        self._bare: set[str] = set()
        self._attributes: set[tuple[str, str]] = set()

    def read(self, parts: Sequence[Part]) -> Piece:
        waiting: list[Part | _Names | None] = list(reversed(parts))
        while waiting:
            part = waiting.pop()
            if isinstance(part, str):
                self._texts.append(part)
            elif part is None:
                ended = self._scopes.pop()
                self._scopes[-1].inner |= ended.free()
            elif isinstance(part, _Names):
                self._scopes.append(part)
            else:
                waiting.extend(self._open(part)[::-1])

        outermost = self._scopes[0]
        return Piece(
            text="".join(self._texts),
            free=frozenset(outermost.read | outermost.inner),
            bare=frozenset(self._bare),
            attributes=frozenset(self._attributes),
        )

    def _open(self, node: ast.AST) -> Sequence[Part | _Names | None]:
        """Return the parts of a node; a scope begins with its names and ends with ``None``."""
        names = self._scopes[-1]
        if isinstance(node, ast.Name):
            self._note_name(node, names)
            return (f"(Name {node.id!a})",)

        if isinstance(node, ast.Constant):
            return (_constant(node.value),)

        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names.read.add(node.value.id)
            self._attributes.add((node.value.id, node.attr))
            return (f"(Attribute value=(Name {node.value.id!a}) attr={node.attr!a})",)

        kind = type(node)
        if kind in _BINDING:
            names.bound.add(bound_by(node) or "")
        elif kind in _OUTER:
            names.outer.update(getattr(node, "names", ()))

        inner = _INNER.get(kind)
        if inner is None:
            return (f"({kind.__name__}", *_fields(node, node._fields), ")")

        outer = [name for name in node._fields if name not in inner]
        scope = _Names(bound=_parameters(node), is_class=isinstance(node, ast.ClassDef))
        return (
            f"({kind.__name__}",
            *_fields(node, outer),
            scope,
            *_fields(node, inner),
            None,
            ")",
        )

    def _note_name(self, node: ast.Name, names: _Names) -> None:
        if isinstance(node.ctx, ast.Load):
            names.read.add(node.id)
            self._bare.add(node.id)
        else:
            names.bound.add(node.id)


def _fields(node: ast.AST, names: Sequence[str]) -> list[Part]:
    parts: list[Part] = []
    for name in names:
        value = getattr(node, name, None)
        if value is None or value == [] or name in _NO_CODE:
            continue

        if isinstance(value, ast.AST):
            parts += (f" {name}=", value)
        elif not isinstance(value, list):
            parts.append(f" {name}={value!a}")
        elif isinstance(node, ast.JoinedStr):
            parts += _merged(value)
        else:
            parts += (f" {name}=[", *_items(name, value), "]")

    return parts


def _items(field_name: str, items: Sequence[object]) -> Iterator[Part]:
    for item in items:
        if not isinstance(item, ast.AST):
            yield f" {item!a}"
        elif not (_is_text(item) or (field_name == "decorator_list" and _is_declaration(item))):
            yield item


def _is_text(node: ast.AST) -> bool:
    """Say whether a statement is a docstring, or another text that does nothing."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _is_declaration(decorator: ast.AST) -> bool:
    """Say whether a decorator is ``@change(...)``, under whatever name it was imported."""
    return (
        isinstance(decorator, ast.Call)
        and {keyword.arg for keyword in decorator.keywords} >= _DECLARING
    )


def _merged(values: Sequence[ast.AST]) -> Iterator[Part]:
    """Yield the parts of an f-string; Pythons differ in how they cut the text between."""
    text = ""
    for value in values:
        if isinstance(value, ast.Constant):
            text += str(value.value)
            continue

        yield f" {text!a}" if text else ""
        yield value
        text = ""

    yield f" {text!a}" if text else ""


def _constant(value: object) -> str:
    """Return a constant with its type; a huge number has no decimal form, a text may not print."""
    written = hex(value) if type(value) is int else ascii(value)
    return f"({type(value).__name__} {written})"


def _parameters(node: ast.AST) -> set[str]:
    given = getattr(node, "args", None)
    if not isinstance(given, ast.arguments):
        return set()

    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return {one.arg for one in (*named, given.vararg, given.kwarg) if one}


def bound_by(node: ast.AST) -> str | None:
    """Return the name that a node binds where that is no node of its own."""
    if isinstance(node, ast.alias):
        return node.asname or node.name.partition(".")[0]

    name = _BINDING.get(type(node))
    return name and getattr(node, name)
