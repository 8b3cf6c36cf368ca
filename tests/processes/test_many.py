from __future__ import annotations

from collections import Counter

import pytest

from tests.databases import FAMILIES

from .kit import LINE, LONG, Project

pytestmark = pytest.mark.processes


def run_eight_at_once(project: Project) -> list[str]:
    """Let eight processes begin at the same moment; return how each has ended."""
    runners = [project.start(waits=True, lock=LONG) for _ in range(8)]
    for runner in runners:
        runner.wait_for("ready")

    for runner in runners:
        runner.go()

    for runner in runners:
        assert runner.end() == 0, runner.output

    return [runner.output.splitlines()[-1] for runner in runners]


def test_eight_processes_at_once_apply_each_of_fifty_changes_once(project: Project) -> None:
    ids = [f"line-{number:02}" for number in range(1, 51)]
    project.add(*ids, code=LINE)

    endings = Counter(run_eight_at_once(project))

    assert project.lines == ids
    assert endings == {"ended SUCCESS, 50 applied": 1, "ended NOTHING_TO_DO, 0 applied": 7}
    entries = project.entries()
    assert len(entries) == 101
    assert Counter(entry.state for entry in entries if entry.change_id) == {
        "STARTED": 50,
        "APPLIED": 50,
    }
    assert entries[-1].type == "CHECKPOINT"
    assert len({entry.execution_id for entry in entries}) == 1


@pytest.mark.parametrize("layout", ["one file", "separate", "two files", *FAMILIES])
def test_eight_processes_at_once_commit_each_of_twenty_changes_once(
    project: Project, layout: str
) -> None:
    project.layout = layout
    ids = [f"row-{number:02}" for number in range(1, 21)]
    project.add_transactional(*ids)

    endings = Counter(run_eight_at_once(project))

    assert project.rows == ids
    assert endings == {"ended SUCCESS, 20 applied": 1, "ended NOTHING_TO_DO, 0 applied": 7}
    assert project.log() == ["STARTED 1", "APPLIED 1"] * 20 + ["CHECKPOINT"]
    assert len({entry.execution_id for entry in project.entries()}) == 1
