from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from aflamingock._host import describe_process
from aflamingock._records import Lease
from aflamingock.stores.sqlite import SQLiteAuditStore

from .conftest import FAILS, STORE, Project

ONLY_STORE = ["--store", STORE]


def hold_lease(path: Path) -> None:
    """Let this process hold the lease, as a run of it would."""
    process = describe_process(os.getpid())

    async def swap() -> None:
        store = SQLiteAuditStore(path)
        async with store:
            await store.create()
            current = await store.read_record(Lease.key("default"))
            lease = Lease(
                service="default",
                owner="a-run",
                epoch=7,
                ttl=60,
                host="shop-1",
                pid=os.getpid(),
                process=process,
            )
            assert await store.swap_record(current, lease.to_record())

    anyio.run(swap)


@pytest.fixture
def in_doubt(project: Project) -> Project:
    """A project with an applied change, and one that needs a person."""
    project.write(1, "create-users")
    project.write(2, "tell-broker", execute=FAILS, more="")
    assert project.call("apply").code == 1
    return project


def test_audit_list_shows_the_last_state_of_each_change(in_doubt: Project) -> None:
    outcome = in_doubt.call("audit", "list", options=ONLY_STORE)

    rows = [line.split("\t") for line in outcome.out.splitlines()]
    assert outcome.code == 0
    assert [row[1:3] for row in rows] == [
        ["CHANGE", "STATE"],
        ["create-users", "APPLIED"],
        ["tell-broker", "FAILED"],
    ]


def test_audit_list_history_shows_every_entry(in_doubt: Project) -> None:
    outcome = in_doubt.call("audit", "list", "--history", "--json", options=ONLY_STORE)

    entries = outcome.document["entries"]
    assert [entry["sequence"] for entry in entries] == list(range(1, len(entries) + 1))
    assert [entry["state"] for entry in entries] == ["STARTED", "APPLIED", "STARTED", "FAILED"]
    assert isinstance(entries[0]["metadata"], dict)
    assert "the broker said no" in entries[-1]["errorTrace"]


def test_audit_list_can_be_cut(in_doubt: Project) -> None:
    def numbers(*options: str) -> list[str]:
        listed = in_doubt.call("audit", "list", *options, options=ONLY_STORE).out
        return [line.split("\t")[0] for line in listed.splitlines()[1:]]

    assert numbers("--history", "--limit", "2") == ["3", "4"]
    assert numbers("--limit", "1") == ["4"]
    assert numbers("--history", "--since", "1 hour ago") == ["1", "2", "3", "4"]
    assert numbers("--since", "1 hour ago") == ["2", "4"]
    assert numbers("--history", "--since", "2999-01-01") == []


def test_audit_list_extended_shows_how_and_where(in_doubt: Project) -> None:
    outcome = in_doubt.call("audit", "list", "--extended", options=ONLY_STORE)

    heads, *rows = (line.split("\t") for line in outcome.out.splitlines())
    assert dict(zip(heads, rows[1], strict=True))["ERROR"] == "ValueError: the broker said no"
    assert dict(zip(heads, rows[1], strict=True))["STRATEGY"] == "NON_TX"


def test_an_empty_log_says_so(project: Project) -> None:
    outcome = project.call("audit", "list", options=ONLY_STORE)

    assert outcome.code == 0
    assert outcome.out == "The audit log of the service 'default' has no such entry.\n"
    assert not (project.folder / "audit.db").exists()


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "99999999 days ago", ""])
def test_a_point_in_time_must_be_one(project: Project, text: str) -> None:
    outcome = project.call("audit", "list", "--since", text or " ", options=ONLY_STORE)

    assert outcome.code == 2
    assert "2 hours ago" in outcome.err


def test_issues_are_listed_without_the_code(in_doubt: Project) -> None:
    outcome = in_doubt.call("issue", "list", options=ONLY_STORE)

    assert outcome.code == 0
    assert outcome.out.splitlines()[1].split("\t")[:2] == ["tell-broker", "FAILED"]
    (issue,) = in_doubt.call("issue", "list", "--json", options=ONLY_STORE).document["issues"]
    assert issue["changeId"] == "tell-broker"


def test_an_issue_is_shown_with_its_error_and_what_to_do(in_doubt: Project) -> None:
    outcome = in_doubt.call("issue", "get", "--guidance", options=ONLY_STORE)

    assert "changeId: tell-broker" in outcome.out
    assert "the broker said no" in outcome.out
    assert "audit fix -c tell-broker -r APPLIED" in outcome.out
    plain = in_doubt.call("issue", "get", "-c", "tell-broker", options=ONLY_STORE)
    assert "audit fix" not in plain.out
    document = in_doubt.call("issue", "get", "--guidance", "--json", options=ONLY_STORE).document
    assert document["issue"]["changeId"] == "tell-broker"
    assert "audit fix" in document["guidance"]


def test_a_change_that_is_no_issue_cannot_be_got(in_doubt: Project) -> None:
    outcome = in_doubt.call("issue", "get", "-c", "create-users", options=ONLY_STORE)

    assert outcome.code == 2
    assert "'create-users' is no issue" in outcome.err


def test_no_issue_is_no_failure(project: Project) -> None:
    assert project.call("issue", "get", options=ONLY_STORE).out == "No change needs a person.\n"
    assert project.call("issue", "list", options=ONLY_STORE).out == "No change needs a person.\n"
    assert project.call("issue", "get", "--json").document == {"issue": None}


def test_fix_answers_an_issue_for_good(in_doubt: Project) -> None:
    outcome = in_doubt.call(
        *("audit", "fix", "-c", "tell-broker", "-r", "APPLIED"),
        *("--reason", "seen in the broker", "--by", "ann"),
        options=ONLY_STORE,
    )

    assert outcome.code == 0
    assert "tell-broker: MANUAL_MARKED_AS_APPLIED" in outcome.out
    assert in_doubt.call("issue", "list", options=ONLY_STORE).out == "No change needs a person.\n"
    assert in_doubt.call("apply").code == 0
    log = in_doubt.call("audit", "list", "--history", "--json").out
    assert "seen in the broker" in log
    assert "ann" in log


def test_fix_as_rolled_back_applies_the_change_anew(in_doubt: Project) -> None:
    fixed = in_doubt.call("audit", "fix", "-c", "tell-broker", "-r", "ROLLED_BACK", "--json")

    assert fixed.document["entry"]["state"] == "MANUAL_MARKED_AS_ROLLED_BACK"
    in_doubt.write(2, "tell-broker")
    assert in_doubt.call("apply").code == 0
    assert in_doubt.effects == ["create-users", "tell-broker"]


def test_fix_refuses_what_is_not_in_doubt(in_doubt: Project) -> None:
    outcome = in_doubt.call("audit", "fix", "-c", "create-users", "-r", "ROLLED_BACK")

    assert outcome.code != 0
    assert "create-users" in outcome.err
    assert in_doubt.call("audit", "fix", "-c", "tell-broker", "-r", "MAYBE").code == 2


def test_a_free_lock_is_free(project: Project) -> None:
    assert project.call("lock", "status", options=ONLY_STORE).out == "state: free\n"


def test_the_lock_tells_its_holder_and_stops_others(project: Project) -> None:
    project.write(1, "create-users")
    app = project.write_app("flamingock = made(lock=LockOptions(timeout=0))")
    hold_lease(project.folder / "audit.db")

    status = project.call("lock", "status", options=ONLY_STORE)
    assert "state: held" in status.out.splitlines()
    assert "host: shop-1" in status.out.splitlines()
    assert "shop-1" in project.call("status").out
    outcome = project.call("apply", options=["--app", app])
    assert outcome.code == 5
    assert "shop-1" in outcome.err
    assert project.effects == []


def test_the_lock_can_be_taken_from_its_holder(project: Project) -> None:
    project.write(1, "create-users")
    hold_lease(project.folder / "audit.db")

    assert project.call("lock", "release", options=ONLY_STORE).code == 2
    released = project.call(
        "lock", "release", "--force", "--reason", "host is gone", "--by", "ann", options=ONLY_STORE
    )
    assert released.code == 0
    assert project.call("lock", "status", "--json").document["state"] == "free"
    assert project.call("apply").code == 0
    assert "host is gone" in project.call("audit", "list", "--history", "--json").out


def test_a_store_that_cannot_be_opened_is_exit_code_6(project: Project) -> None:
    (project.folder / "audit.db").write_bytes(b"this is no database, but long enough" * 9)

    outcome = project.call("audit", "list", options=ONLY_STORE)

    assert outcome.code == 6
    assert outcome.err.startswith("error: ")
    assert project.call("audit", "list", "--json").document["error"]["exitCode"] == 6


@pytest.mark.parametrize("more", [[], ["--write"]])
def test_the_connection_of_a_store_can_be_tried(project: Project, more: list[str]) -> None:
    outcome = project.call("test-connection", *more, options=ONLY_STORE)

    assert outcome.code == 0
    assert "can be read" in outcome.out
    assert ("written" in outcome.out) is bool(more)
    document = project.call("test-connection", *more, "--json", options=ONLY_STORE).document
    assert document["audit-store"] == "Available"
    assert (document["writeSeconds"] is not None) is bool(more)
    assert f"warning: {document['warnings'][0]}\n" == outcome.err


def test_a_connection_that_fails_says_what_to_verify(project: Project) -> None:
    outcome = project.call("test-connection", options=["--store", "sqlite:////missing/audit.db"])

    assert outcome.code == 6
    assert "Unable to connect to audit store: the folder /missing does not exist" in outcome.err


def test_a_run_at_work_is_told_beside_what_it_has_begun(project: Project) -> None:
    project.write(1, "create-users", execute=FAILS, more="")
    assert project.call("apply").code == 1
    for command in (["status"], ["issue", "list"], ["issue", "get"]):
        assert project.call(*command).err == ""

    hold_lease(project.folder / "audit.db")
    for command in (["status"], ["issue", "list"], ["issue", "get"]):
        assert "Somebody holds the lease and is at work" in project.call(*command).err


def test_the_answer_to_an_issue_may_be_written_small(project: Project) -> None:
    project.write(1, "create-users", execute=FAILS, more="")
    project.call("apply")

    assert project.call("audit", "fix", "-c", "create-users", "-r", "applied").code == 0
