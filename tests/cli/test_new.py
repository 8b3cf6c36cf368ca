from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Project


def test_new_writes_a_change_with_the_next_order(project: Project) -> None:
    project.write(7, "create-users")

    outcome = project.call("new", "add user status", "--author", 'the "shop" team')

    path = project.changes / "_0008__add_user_status.py"
    assert outcome.code == 0
    assert Path(outcome.out.strip()) == Path("changes") / path.name
    assert 'id="add-user-status"' in path.read_text("utf-8")
    assert "class AddUserStatus:" in path.read_text("utf-8")
    (_, planned) = project.call("plan", "--json").document["stages"][0]["changes"]
    assert planned["author"] == 'the "shop" team'
    assert planned["rollbackAvailable"] is True


def test_the_first_change_has_order_1(project: Project) -> None:
    outcome = project.call("new", "create users", "--target-system", "shop", "--json")

    assert outcome.document == {"file": "changes/_0001__create_users.py"}
    assert 'target_system="shop"' in (project.folder / outcome.document["file"]).read_text("utf-8")


def test_a_new_change_that_is_not_written_fails(project: Project) -> None:
    project.call("new", "create users")

    outcome = project.call("apply")

    assert outcome.code == 1
    assert "write what the change does" in outcome.err


def test_new_refuses_a_name_that_is_taken(project: Project) -> None:
    project.call("new", "create users")

    outcome = project.call("new", "Create-Users")

    assert outcome.code == 2
    assert "_0001__create_users.py" in outcome.err
    assert len(list(project.changes.iterdir())) == 1


def test_new_writes_into_a_package(project: Project) -> None:
    (project.folder / "shop" / "changes").mkdir(parents=True)

    outcome = project.call("new", "create users", options=["--changes", "shop.changes"])

    assert outcome.code == 0
    assert (project.folder / "shop" / "changes" / "_0001__create_users.py").is_file()


@pytest.mark.parametrize(
    ("options", "name", "told"),
    [
        ([], "create users", "--changes"),
        (["--changes", "no.package"], "create users", "no.package"),
        (["--changes", "./nowhere"], "create users", "./nowhere"),
        (["--changes", "json.decoder"], "create users", "json.decoder"),
        (["--changes", "changes"], "42", "'42'"),
        (["--changes", "changes"], "long " * 60, "cannot be written"),
        (["--changes", "changes"], "../..", "'../..'"),
    ],
)
def test_new_says_why_it_cannot_write(
    project: Project, options: list[str], name: str, told: str
) -> None:
    outcome = project.call("new", name, options=options)

    assert outcome.code == 2
    assert told in outcome.err
    assert list(project.changes.iterdir()) == []


@pytest.mark.parametrize("last", ["_9999__full.py", "_v1__named.py"])
def test_new_does_not_guess_what_comes_after_an_odd_order(project: Project, last: str) -> None:
    (project.changes / last).touch()

    outcome = project.call("new", "create users")

    assert outcome.code == 2
    assert "by hand" in outcome.err
