from __future__ import annotations

import signal

from blockbuster import BlockBuster

from .conftest import FAILS, Project


def test_apply_reports_what_it_has_applied(project: Project) -> None:
    project.write(1, "create-users")
    project.write(2, "fill-users")

    outcome = project.call("apply")

    assert outcome.code == 0
    assert project.effects == ["create-users", "fill-users"]
    lines = [line.split("\t") for line in outcome.out.splitlines()]
    assert lines[0][:3] == ["STAGE", "CHANGE", "STATUS"]
    assert [line[1:3] for line in lines[1:3]] == [
        ["create-users", "APPLIED"],
        ["fill-users", "APPLIED"],
    ]
    assert lines[3][0].startswith("Success: 2 applied in ")
    assert "create-users: applied in" in outcome.err


def test_a_second_apply_finds_nothing_to_do(project: Project) -> None:
    project.write(1, "create-users")
    project.call("apply")

    outcome = project.call("apply")

    assert outcome.code == 0
    assert outcome.out.startswith("Nothing to do")
    assert project.effects == ["create-users"]


def test_apply_as_json_is_one_document_and_no_progress(project: Project) -> None:
    project.write(1, "create-users", execute='print("noise")')

    outcome = project.call("apply", "--json")

    assert outcome.code == 0
    assert outcome.document["status"] == "SUCCESS"
    assert outcome.document["stages"][0]["changes"][0]["changeId"] == "create-users"
    assert outcome.err == "noise\n"


def test_a_failing_change_is_named_with_its_file_and_error(project: Project) -> None:
    project.write(1, "create-users")
    project.write(2, "tell-broker", execute=FAILS)
    project.write(3, "fill-users")

    outcome = project.call("apply")

    assert outcome.code == 1
    for told in ("tell-broker", "_0002__tell_broker.py", "the broker said no"):
        assert told in outcome.err

    rows = {line.split("\t")[1]: line for line in outcome.out.splitlines() if "\t" in line}
    assert "the broker said no" in rows["tell-broker"]
    assert "_0002__tell_broker.py" in rows["tell-broker"]
    assert rows["fill-users"].split("\t")[2] == "NOT_REACHED"
    assert project.effects == ["create-users", "-tell-broker"]
    assert "Traceback" not in outcome.err


def test_a_failing_change_is_told_as_json(project: Project) -> None:
    project.write(1, "tell-broker", execute=FAILS)
    project.write(2, "fill-users")

    outcome = project.call("apply", "--json")

    assert outcome.code == 1
    error = outcome.document["error"]
    assert error["type"] == "ChangeFailedError"
    assert error["exitCode"] == 1
    for told in ("tell-broker", "_0001__tell_broker.py", "the broker said no"):
        assert told in error["message"]

    failed, later = error["report"]["stages"][0]["changes"]
    assert failed["error"] == "ValueError: the broker said no"
    assert later["status"] == "NOT_REACHED"


def test_verbose_shows_the_traceback_of_what_failed(project: Project) -> None:
    project.write(1, "tell-broker", execute=FAILS)

    outcome = project.call("apply", "-v")

    assert outcome.code == 1
    assert "Traceback" in outcome.err
    assert 'raise ValueError("the broker said no")' in outcome.err


def test_a_change_in_doubt_needs_a_person(project: Project) -> None:
    project.write(1, "tell-broker", execute=FAILS, more="")
    project.call("apply")

    outcome = project.call("apply")

    assert outcome.code == 4
    assert "tell-broker" in outcome.err
    assert project.call("validate").code == 4
    assert project.call("apply", "--json").document["error"]["exitCode"] == 4


def test_every_fault_of_the_changes_is_told(project: Project) -> None:
    project.write(1, "create-users")
    project.write(2, "create-users")
    (project.changes / "_0003__broken.py").write_text("def (", "utf-8")

    outcome = project.call("apply")

    assert outcome.code == 2
    assert "create-users" in outcome.err
    assert "_0003__broken.py" in outcome.err
    assert not (project.folder / "audit.db").exists()


def test_a_change_that_was_edited_is_drift(project: Project) -> None:
    project.write(1, "create-users")
    project.call("apply")
    project.write(1, "create-users", execute='print("something else")')

    outcome = project.call("apply")

    assert outcome.code == 7
    assert "create-users" in outcome.err
    assert project.call("plan").code == 0
    assert "create-users" in project.call("plan").err


def test_plan_shows_what_apply_would_do_and_writes_nothing(project: Project) -> None:
    project.write(1, "create-users")

    outcome = project.call("plan")

    assert outcome.code == 0
    assert outcome.out.splitlines()[1].split("\t")[1:3] == ["create-users", "APPLY"]
    assert not (project.folder / "audit.db").exists()
    project.call("apply")
    assert project.call("plan").out == "Nothing to do.\n"


def test_plan_as_json_has_an_action_for_each_change(project: Project) -> None:
    project.write(1, "create-users")

    (stage,) = project.call("plan", "--json").document["stages"]

    assert [planned["action"] for planned in stage["changes"]] == ["APPLY"]


def test_validate_exits_with_3_while_something_is_pending(project: Project) -> None:
    project.write(1, "create-users")

    outcome = project.call("validate")

    assert outcome.code == 3
    assert "create-users" in outcome.out
    assert outcome.err.startswith("error: ")
    error = project.call("validate", "--json").document["error"]
    assert error["plan"]["pending"] == 1


def test_validate_exits_with_0_when_nothing_is_pending(project: Project) -> None:
    project.write(1, "create-users")
    project.call("apply")

    assert project.call("validate").out == "Nothing is pending.\n"
    assert project.call("validate", "--json").document == {"valid": True}


def test_status_counts_changes_and_names_issues(project: Project) -> None:
    gone = project.write(1, "create-users")
    project.write(2, "fill-users")
    project.call("apply")
    gone.unlink()
    project.write(3, "tell-broker", execute=FAILS, more="")
    project.call("apply")
    project.write(4, "sort-users")

    outcome = project.call("status")

    assert outcome.code == 0
    for line in ("service: default", "applied: 1", "pending: 1", "blocked: 1", "unknown: 1"):
        assert line in outcome.out.splitlines()

    assert "issues: 1" in outcome.out.splitlines()
    assert "lock: free" in outcome.out.splitlines()
    assert "create-users" in outcome.err
    document = project.call("status", "--json").document
    assert document["unknown"] == ["create-users"]
    assert document["lock"]["state"] == "free"
    assert [issue["changeId"] for issue in document["issues"]] == ["tell-broker"]


SIGNALLED = """
import os
import signal

import anyio

from aflamingock import change


@change(id="slow", author="tests")
class Slow:
    async def execute(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.sleep(60)

    async def rollback(self) -> None:
        print("taken back")
"""


def test_a_signal_takes_the_running_change_back(project: Project, blockbuster: BlockBuster) -> None:
    # what a signal says is written at once, for a change may block the loop
    blockbuster.functions["os.write"].can_block_in("cli/_interruption.py", "_tell")
    before = signal.getsignal(signal.SIGTERM)
    (project.changes / "_0001__slow.py").write_text(SIGNALLED, "utf-8")

    outcome = project.call("apply")

    assert outcome.code == 130
    assert "taken back" in outcome.err
    assert outcome.err.endswith("error: Interrupted.\n")
    assert signal.getsignal(signal.SIGTERM) is before
    (entry,) = project.call("audit", "list", "--json").document["entries"]
    assert entry["state"] == "ROLLED_BACK"


def test_what_a_run_warns_of_is_told_once(project: Project) -> None:
    project.write(1, "create-users")
    gone = project.write(2, "gone")
    assert project.call("apply").code == 0
    gone.unlink()

    outcome = project.call("apply")

    assert outcome.code == 0
    assert outcome.err.count("'gone' is applied, but is gone from the code") == 1


def test_one_change_is_counted_as_one(project: Project) -> None:
    project.write(1, "create-users")

    assert "1 change is pending: 'create-users'" in project.call("validate").err
