"""What errors leave in an audit entry: short enough, and free of secrets."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given, settings

from aflamingock import _payload
from aflamingock._payload import error_line, error_trace, redacted
from tests.hostile import HostileError, any_text, assert_storable


def raised(exc: BaseException) -> BaseException:
    try:
        raise exc
    except BaseException as caught:
        return caught


class TestErrors:
    def test_a_line_names_the_type_and_the_message(self) -> None:
        assert error_line(ValueError("no  good\nat all")) == "ValueError: no good at all"
        assert error_line(KeyboardInterrupt()) == "KeyboardInterrupt"

    def test_a_line_tells_what_is_inside_a_group(self) -> None:
        group = ExceptionGroup(
            "in a task group", [ValueError("a"), ExceptionGroup("b", [OSError()])]
        )
        assert error_line(group) == (
            "ExceptionGroup: in a task group (2 sub-exceptions): ValueError: a; "
            "ExceptionGroup: b (1 sub-exception): OSError"
        )

    def test_a_line_ends_with_the_notes_of_an_error(self) -> None:
        error = ValueError("dup key: { id: 1 }")
        error.add_note("Give the change transactional=False.")
        error.add_note("Not password=xyz")
        told = "ValueError: dup key: {***} [Give the change transactional=False.] [Not password=***"

        assert error_line(error) == told
        assert error_line(ExceptionGroup("b", [error])).endswith(f"(1 sub-exception): {told}")
        vars(error)["__notes__"] = 1
        assert error_line(error) == "ValueError: dup key: {***}"

    def test_a_trace_has_causes_contexts_and_notes_but_no_variables(self) -> None:
        hidden_value = "local"
        try:
            try:
                raise KeyError("first")
            except KeyError:
                int(hidden_value + "!")
        except ValueError as exc:
            error = OSError("last")
            error.__cause__ = exc
            error.add_note("and a note")

        trace = error_trace(raised(error))
        for part in ("KeyError: 'first'", "ValueError", "OSError: last", "and a note", __file__):
            assert part in trace

        assert "hidden_value = 'local'" not in trace

    def test_our_own_frames_at_the_top_are_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def inner() -> None:
            raise ValueError("boom")

        def outer() -> None:
            inner()

        namespace: dict[str, Any] = {"f": outer}
        exec(compile("def ours(): f()", _payload.__file__, "exec"), namespace)
        with pytest.raises(ValueError, match="boom") as caught:
            namespace["ours"]()

        error = caught.value
        assert error.__traceback__ is not None
        error.__traceback__ = error.__traceback__.tb_next
        assert _payload.__file__ not in error_trace(error)
        assert "in outer" in error_trace(error)
        with pytest.raises(ValueError, match="nothing else") as caught:
            exec(
                compile(
                    "def ours(): raise ValueError('nothing else')\nours()",
                    _payload.__file__,
                    "exec",
                )
            )

        error = caught.value
        assert error.__traceback__ is not None
        error.__traceback__ = error.__traceback__.tb_next
        assert _payload.__file__ in error_trace(error)

    def test_a_hostile_error_is_told_all_the_same(self) -> None:
        assert error_line(HostileError()) == "HostileError: <HostileError that cannot be shown>"
        assert "HostileError" in error_trace(raised(HostileError()))

        class Worse(Exception):
            @property
            def __traceback__(self) -> None:  # type: ignore[override]  # as hostile as can be
                raise RuntimeError("no traceback for you")

        assert error_trace(Worse("x")) == "Worse: x"

    def test_an_error_that_cannot_be_told_leaves_its_name(self) -> None:
        class Empty(ExceptionGroup):
            @property
            def exceptions(self) -> tuple[Exception, ...]:
                raise RuntimeError("nothing inside for you")

        assert error_line(Empty("x", [ValueError()])) == "Empty"

    def test_nests_and_recursions_end(self) -> None:
        group: Exception = ValueError("innermost")
        for _ in range(sys.getrecursionlimit() * 2):
            group = ExceptionGroup("nest", [group])

        assert_storable(error_line(group), 500)
        assert_storable(error_trace(group), 20_000)

        def recurse() -> None:
            recurse()

        with pytest.raises(RecursionError) as caught:
            recurse()

        assert "RecursionError" in error_trace(caught.value)
        circle = ValueError("circle")
        circle.__context__ = OSError("context")
        circle.__context__.__context__ = circle
        assert "circle" in error_trace(circle)

    def test_ten_megabytes_with_all_that_is_unstorable_are_cut(self) -> None:
        error = raised(ValueError("begin\x00\udc80" + "password=x " * 1_000_000 + "end"))
        assert_storable(error_line(error), 500)
        assert_storable(error_trace(error), 20_000)
        assert error_line(error).startswith(r"ValueError: begin\x00\udc80password=***")
        assert error_trace(error).endswith("end")

    def test_secrets_are_taken_out(self) -> None:
        error = raised(ConnectionError("no postgresql://app:hunter2@db/shop"))
        assert error_line(error) == "ConnectionError: no postgresql://app:***@db/shop"
        assert "***@db/shop" in error_trace(error).splitlines()[-1]
        assert "hunter2" not in error_trace(error)

    @settings(deadline=None)
    @given(any_text)
    def test_any_message_becomes_storable(self, text: str) -> None:
        error = ValueError(text)
        line = error_line(error)
        assert_storable(line, 500)
        assert len(line.splitlines()) == 1
        assert_storable(error_trace(error), 20_000)


SECRETS = [
    ("postgresql+asyncpg://app:s3cr3t@db:5432/x", "postgresql+asyncpg://app:***@db:5432/x"),
    ("mongodb://app:s3/cr@3t@h1,h2/x", "mongodb://app:***@h1,h2/x"),
    ("postgresql://app:12-s3cr3t@db/x", "postgresql://app:***@db/x"),
    (f"postgresql://app:{150 * 's'}@db/x", "postgresql://app:***@db/x"),
    ("redis://:s3cr3t@h", "redis://:***@h"),
    ("postgresql://app:s3 cr3t x@db/x not there", "postgresql://app:***@db/x not there"),
    ("https://s3cr3t@github.com/x", "https://***@github.com/x"),
    ("host=db password=s3cr3t user=app", "host=db password=*** user=app"),
    ("connect(passwd='s3 \\' cr3t', user='app')", "connect(passwd=***, user='app')"),
    ('pwd: "s3 cr3t"', "pwd: ***"),
    ('{"password": "s3cr3t", "user": "app"}', '{"password": ***, "user": "app"}'),
    ("{'client_secret': 's3cr3t'}", "{'client_secret': ***}"),
    ('{\\"token\\": \\"s3cr3t\\"}', '{\\"token\\": ***'),
    ("API_KEY=s3cr3t;X=1", "API_KEY=***;X=1"),
    ("?apikey=s3cr3t&x=1", "?apikey=***&x=1"),
    ("X-Api-Key: s3cr3t", "X-Api-Key: ***"),
    ("password = b's3cr3t'", "password = ***"),
    ("password=SecretStr('s3cr3t')", "password=***"),
    ("password: str = 's3cr3t'", "password: ***"),
    ("LINE 1: create role x login password 's3''cr3t'", "LINE 1: create role x login password ***"),
    ("CREATE USER x IDENTIFIED BY 's3cr3t'", "CREATE USER x IDENTIFIED BY ***"),
    ("key AKIAABCDEFGHIJKLMNOP x", "key *** x"),
    ("ASIAABCDEFGHIJKLMNOP", "***"),
    ("aws_secret_access_key = wJalr/XUt+s3cr3t", "aws_secret_access_key = ***"),
    ("aws_access_key_id: s3cr3t", "aws_access_key_id: ***"),
    ("Authorization: Bearer s3cr3t.x-y_z=", "Authorization: Bearer ***"),
    ("authorization: Basic czNjcjN0", "authorization: Basic ***"),
    (
        "[SQL: insert]\n[parameters: ('s3cr3t', [1])]\n(Background",
        "[SQL: insert]\n[parameters: ***]\n(Background",
    ),
    ("[parameters: ('s3cr3t', cut", "[parameters: ***"),
    (
        "DETAIL:  Key (lower(e), f)=(s3)cr3t) already exists.",
        "DETAIL:  Key (lower(e), f)=(***) already exists.",
    ),
    ("DETAIL:  Failing row contains (1, s3cr3t).", "DETAIL:  Failing row contains (***)."),
    (
        "(1062, \"Duplicate entry 's3' cr3t' for key 'e'\")",
        "(1062, \"Duplicate entry *** for key 'e'\")",
    ),
    (
        "(1366, \"Incorrect integer value: 's3cr3t' for column `x`.`n` at row 1\")",
        '(1366, "Incorrect integer value: *** for column `x`.`n` at row 1")',
    ),
    (
        "the right syntax to use near '= 's3cr3t'' at line 1",
        "the right syntax to use near *** at line 1",
    ),
    (
        'invalid input syntax for type double precision: "s3cr3t"\n[SQL: x]',
        "invalid input syntax for type double precision: ***\n[SQL: x]",
    ),
    (
        "invalid input for query argument $1: 's3cr3t' (an integer is required)",
        "invalid input for query argument $1: ***",
    ),
    (
        "E11000 index: e_1 dup key: { e: \"s3cr3t\" }, full error: {'keyValue': {'e': 's3cr3t'}}",
        "E11000 index: e_1 dup key: {***}",
    ),
]


class TestRedaction:
    @pytest.mark.parametrize(("text", "safe"), SECRETS, ids=[text[:30] for text, _ in SECRETS])
    def test_secrets_are_taken_out(self, text: str, safe: str) -> None:
        assert redacted(text) == safe
        assert redacted(safe) == safe

    @pytest.mark.parametrize(
        "text",
        [
            "connection to server at 127.0.0.1, port 5432 failed",
            'password authentication failed for user "app"',
            "GET http://localhost:8080/orders/1 failed, tell ops@example.org",
            "redis://localhost:6379 said no to ops@example.org",
            "http://[::1]:8080/ said no to ops@example.org",
            "IntegrityError: UNIQUE constraint failed: users.email",
            "f(x) = (y)",
            'File "/app/changes/_0001__add.py", line 7, in execute',
        ],
    )
    def test_other_texts_are_kept(self, text: str) -> None:
        assert redacted(text) == text

    @pytest.mark.parametrize(
        "piece",
        [
            *("a", " ", "://", "://a:", "a://b:c", "@", "password", "password=", "password='"),
            *('password="\\', "token" * 3, "bearer ", "Key (", ")=(", "dup key: {", "AKIA", "\\'"),
            *(
                "[parameters: ",
                "[parameters: )",
                "://a:b ",
                "password\\",
                "secret:\n",
                "''",
                "password=''",
            ),
        ],
    )
    def test_a_megabyte_takes_no_more_than_linear_time(self, piece: str) -> None:
        assert len(redacted(piece * (1_000_000 // len(piece)))) <= 2_000_000

    @settings(deadline=None)
    @given(any_text)
    def test_any_text_can_be_redacted(self, text: str) -> None:
        assert "s3cr3t" not in redacted(
            f"{text} password=s3cr3t {text}".replace("s3cr3t ", "s3cr3t\n")
        )
