"""Stages and the pipeline that they make, and what must hold among their changes."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ._change import Change, is_texts
from .exceptions import ChangeLoadError, ConfigurationError

Location = str | os.PathLike[str] | type
"""Where changes are: a package's or module's dotted name, a folder, or a change class."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Stage:
    """
    Changes that run in order, as the user states them.

    :param name: letters, digits and ``._-``, 100 at the most
    :param location: the name of a package or module, a folder, a change class, or several of
        these
    :param after: the stages that must be done before; ``None`` for all those given before it,
        ``()`` for none
    :raises ConfigurationError: if an argument is none of these
    """

    name: str
    location: Location | Sequence[Location] = field(kw_only=True)
    after: Sequence[str] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check the arguments."""
        name: object = self.name
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise ConfigurationError(
                f"Stage({name!r}): give a name of 1 to 100 letters, digits and ._- that begins "
                "with a letter or a digit."
            )

        places: Sequence[object] = self.locations
        for location in places:
            if not isinstance(location, str | os.PathLike | type) or location == "":
                raise ConfigurationError(
                    f"Stage({name!r}, location=...): {location!r} is no location. Give the dotted "
                    "name of a package, a folder, a change class, or a list of these."
                )

        if self.after is not None:
            if not is_texts(self.after):
                raise ConfigurationError(
                    f"Stage({name!r}, after={self.after!r}): give names of stages, such as "
                    "after=('first',)."
                )

            object.__setattr__(self, "after", tuple(self.after))

    @property
    def locations(self) -> tuple[Location, ...]:
        """Where the changes are."""
        if isinstance(self.location, Sequence) and not isinstance(self.location, str):
            return tuple(self.location)

        return (self.location,)


@dataclass(frozen=True, slots=True, eq=False)
class LoadedStage:
    """
    A stage whose changes were found.

    :ivar changes: in the order in which they run
    :ivar after: the stages that must be done before, by name
    """

    name: str
    changes: tuple[Change, ...]
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """
    All stages of an application.

    :ivar stages: in the order in which they were given
    :ivar inactive: ids of the changes that the profiles leave out
    """

    stages: tuple[LoadedStage, ...]
    inactive: frozenset[str] = frozenset()
    _by_id: dict[str, Change] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Prepare the look-up by id."""
        by_id: dict[str, Change] = {}
        for change in self.changes():
            by_id.setdefault(change.id, change)

        object.__setattr__(self, "_by_id", by_id)

    def changes(self) -> Iterator[Change]:
        """Yield every active change, stage by stage."""
        for stage in self.stages:
            yield from stage.changes

    def find(self, change_id: str) -> Change | None:
        """Return the active change of an id."""
        return self._by_id.get(change_id)


def stages_before(declared: Sequence[Stage], position: int) -> tuple[str, ...]:
    """Return the names of the stages that the one at *position* comes after."""
    stage = declared[position]
    if stage.after is not None:
        return tuple(dict.fromkeys(stage.after))

    earlier = (other.name for other in declared[:position])
    return tuple(name for name in dict.fromkeys(earlier) if name != stage.name)


def pipeline_faults(
    pipeline: Pipeline, declared: Sequence[Stage], targets: Collection[str]
) -> list[ConfigurationError]:
    """
    Return everything that does not hold among stages and changes.

    :param declared: the stages as the user gave them
    :param targets: the ids of the known target systems
    """
    return [
        *_stage_faults(pipeline, declared),
        *_id_faults(pipeline),
        *(fault for stage in pipeline.stages for fault in _order_faults(stage)),
        *_target_faults(pipeline, targets),
        *_dependency_faults(pipeline),
    ]


def _stage_faults(pipeline: Pipeline, declared: Sequence[Stage]) -> Iterator[ConfigurationError]:
    names = [stage.name for stage in declared]
    for name, count in Counter(names).items():
        if count > 1:
            yield ConfigurationError(f"{count} stages have the name {name!r}. Rename all but one.")

    for stage in pipeline.stages:
        for name in stage.after:
            if name == stage.name:
                yield ConfigurationError(f"Stage {name!r} is to come after itself. Remove that.")
            elif name not in names:
                yield ConfigurationError(
                    f"Stage {stage.name!r} is to come after {name!r}, which is no stage. "
                    f"The stages are {_listed(names)}."
                )

    for circle in _circles({stage.name: stage.after for stage in pipeline.stages}):
        yield ConfigurationError(
            f"Stages wait for each other: {_listed(circle, ' -> ')}. Change the after= of one; a "
            "stage without after= comes after all stages given before it."
        )


def _id_faults(pipeline: Pipeline) -> Iterator[ConfigurationError]:
    found: defaultdict[str, list[tuple[str, Change]]] = defaultdict(list)
    for stage in pipeline.stages:
        for change in stage.changes:
            found[change.id].append((stage.name, change))

    for change_id, uses in found.items():
        changes = {_code_of(change): change for _, change in uses}
        if len(changes) > 1:
            yield _fault(
                uses[-1][1],
                f"{len(uses)} changes have the id {change_id!r}: {_places(changes.values())}. Give "
                "each an id of its own, but leave that of an applied change as it is.",
            )
        elif len(uses) > 1:
            stages = _listed(dict.fromkeys(name for name, _ in uses))
            yield _fault(
                uses[-1][1],
                f"Change {change_id!r} is found {len(uses)} times, in stage {stages}: locations "
                "overlap. Let only one of them lead to it.",
            )


def _order_faults(stage: LoadedStage) -> Iterator[ConfigurationError]:
    found: defaultdict[str, dict[object, Change]] = defaultdict(dict)
    for change in stage.changes:
        found[change.order].setdefault(_code_of(change), change)

    for order, changes in found.items():
        if len(changes) > 1:
            yield _fault(
                list(changes.values())[-1],
                f"{len(changes)} changes of stage {stage.name!r} have the order {order!r}: "
                f"{_places(changes.values())}. Give each an order of its own.",
            )


def _target_faults(pipeline: Pipeline, targets: Collection[str]) -> Iterator[ConfigurationError]:
    known = f"known: {_listed(sorted(targets))}" if targets else "which is empty"
    for change in pipeline.changes():
        if change.target_system is not None and change.target_system not in targets:
            yield _fault(
                change,
                f"Change {change.id!r} names the target system {change.target_system!r}, which is "
                f"not in target_systems= ({known}). Correct the name, or add the target system.",
            )


def _dependency_faults(pipeline: Pipeline) -> Iterator[ConfigurationError]:
    circles = _circles({change.id: change.depends_on for change in pipeline.changes()})
    for circle in circles:
        yield _fault(
            pipeline._by_id[circle[0]],
            f"Changes depend on each other: {_listed(circle, ' -> ')}. Remove one of these.",
        )

    circular = {edge for circle in circles for edge in pairwise(circle)}
    ids = {stage.name: {change.id for change in stage.changes} for stage in pipeline.stages}
    after = {stage.name: stage.after for stage in pipeline.stages}
    for stage in pipeline.stages:
        done = {done for name in _all_before(after, stage.name) for done in ids[name]}
        for change in stage.changes:
            for wanted in change.depends_on:
                if wanted not in done and (change.id, wanted) not in circular:
                    reason = _why_not(pipeline, change, wanted)
                    yield _fault(change, f"Change {change.id!r} depends on {reason}")

            done.add(change.id)


def _why_not(pipeline: Pipeline, change: Change, wanted: str) -> str:
    if wanted == change.id:
        return "itself. Remove that."

    if pipeline.find(wanted):
        return (
            f"{wanted!r}, which does not come before it. Give it a later order, or let its stage "
            "come after the other one's."
        )

    if wanted in pipeline.inactive:
        return f"{wanted!r}, which the profiles leave out. Give both the same profiles."

    return f"{wanted!r}, which is no change of this pipeline. Correct the id."


def _all_before(after: Mapping[str, Sequence[str]], name: str) -> set[str]:
    found: set[str] = set()
    waiting = list(after[name])
    while waiting:
        other = waiting.pop()
        if other in after and other not in found:
            found.add(other)
            waiting.extend(after[other])

    return found - {name}


def _circles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Return the circles of a graph of who needs whom, each closed: the first is the last."""
    from graphlib import CycleError, TopologicalSorter  # needed where changes are loaded only

    edges = {
        name: [other for other in others if other in graph and other != name]
        for name, others in graph.items()
    }
    circles = []
    while True:
        try:
            TopologicalSorter(edges).prepare()
        except CycleError as exc:
            circle = list(reversed(exc.args[1]))
            circles.append(circle)
            edges[circle[0]].remove(circle[1])
        else:
            return circles


def _code_of(change: Change) -> object:
    return (change.file, change.cls.__qualname__) if change.file else change.cls


def _fault(change: Change, message: str) -> ChangeLoadError:
    return ChangeLoadError(message, file=change.file, line=change.line)


def _places(changes: Iterable[Change]) -> str:
    return ", ".join(f"{one.cls.__qualname__} ({one.file or one.module})" for one in changes)


def _listed(names: Iterable[str], between: str = ", ") -> str:
    return between.join(repr(name) for name in names)
