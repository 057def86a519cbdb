"""Log lines: structure, secrets, forgery, repeats."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.telemetry import Metrics, logs, trace


def record(text: str, *args: object, level: int = logging.INFO, line: int = 1, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("mainspring.core.somewhere", level, __file__, line, text, args, None)
    vars(made).update(extra)
    return made


def json_line(made: logging.LogRecord) -> dict[str, object]:
    text = logs.JsonLines().format(made)
    assert "\n" not in text
    line: dict[str, object] = json.loads(text)
    return line


def failed(text: str) -> logging.LogRecord:
    made = record("it broke", level=logging.ERROR)
    try:
        raise RuntimeError(text)
    except RuntimeError:
        made.exc_info = sys.exc_info()
    return made


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield root
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_carries_time_level_logger_message_and_fields() -> None:
    made = record("opened %s", "port 80", count=3, where={"a": [1]})
    made.created = 1_767_225_600.25
    assert json_line(made) == {
        "at": "2026-01-01T00:00:00.250000Z",
        "level": "info",
        "logger": "mainspring.core.somewhere",
        "message": "opened port 80",
        "count": 3,
        "where": {"a": [1]},
    }


def test_a_line_carries_the_request_that_is_being_served() -> None:
    traceparent = f"00-{'ab' * 16}-{'cd' * 8}-01".encode()
    scope = {"mainspring.request_id": b"req-1", "headers": [(b"host", b"x"), (b"traceparent", traceparent)]}
    token = trace.serving.set(scope)
    try:
        line = json_line(record("serving"))
        human = logs.HumanLines().format(record("serving"))
    finally:
        trace.serving.reset(token)
    assert (line["request_id"], line["trace_id"]) == ("req-1", "ab" * 16)
    assert "request_id=req-1" in human
    assert "request_id" not in json_line(record("not serving"))


def test_fields_cannot_replace_what_a_line_is_made_of() -> None:
    assert json_line(record("x", level_="y", logger="forged", at="never"))["logger"] == "mainspring.core.somewhere"


@pytest.mark.parametrize("name", ["password", "token", "Authorization", "set_cookie", "client_secret", "api_key"])
def test_a_field_named_like_a_secret_is_never_written(name: str) -> None:
    assert json_line(record("x", **{name: "hunter2"}))[name] == "[redacted]"
    assert "hunter2" not in logs.HumanLines().format(record("x", **{name: "hunter2"}))


def test_the_number_of_a_token_is_no_secret() -> None:
    assert json_line(record("x", token_id=7))["token_id"] == 7


SECRETS = [
    "Authorization: Bearer abcdefghijklmnop0123456789",
    "authorization: basic dXNlcjpwYXNzd29yZA==",
    "GET /?token=abcdefghijklmnop0123456789 HTTP/1.1",
    "GET /x?a=1&signature=abcdefghijklmnop0123456789&b=2",
    "GET /x?X-Amz-Signature=abcdefghijklmnop0123456789",
    "postgresql://owner:abcdefghijklmnop0123456789@db/main",
    "used ms_abcdefghijklmnop0123456789ABCDEFGHIJKLMNOPQRSTU twice",
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_text_shaped_like_a_secret_is_never_written(text: str) -> None:
    for made in (record(text), record("said %r", text), record("x", header=text), failed(text)):
        for formatter in (logs.JsonLines(), logs.HumanLines()):
            line = formatter.format(made)
            assert "abcdefghijklmnop" not in line and "dXNlcjpwYXNz" not in line
            assert "[redacted]" in line


def test_what_stands_around_a_secret_stays_readable() -> None:
    assert logs.redact("GET /x?a=1&token=abc&b=2") == "GET /x?a=1&token=[redacted]&b=2"
    assert logs.redact("postgresql://me:pw@db:5432/x") == "postgresql://me:[redacted]@db:5432/x"
    assert logs.redact("plain https://example.org:8080/a?b=c text") == "plain https://example.org:8080/a?b=c text"


@given(st.text())
def test_nothing_that_a_caller_sends_forges_a_line_or_moves_the_terminal(text: str) -> None:
    human = logs.HumanLines().format(record("%s", text, agent=text))
    assert len(human.splitlines()) == 1
    assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in human)
    json_line(record("%s", text, agent=text))


def test_a_value_that_is_no_json_is_written_as_it_prints() -> None:
    circle: list[object] = []
    circle.append(circle)
    assert json_line(record("x", thing=ValueError("odd")))["thing"] == "ValueError('odd')"
    assert "thing" in json_line(record("x", thing=circle))
    assert "thing" in json_line(record("x", thing="\ud800"))
    assert json_line(record("two %s %s", "one"))["message"] == "two %s %s ('one',)"


def test_an_exception_is_one_field_and_for_a_person_it_follows_the_line() -> None:
    assert "RuntimeError: no luck" in str(json_line(failed("no luck"))["exception"])
    first, *rest = logs.HumanLines().format(failed("no \x1b[2Jluck")).splitlines()
    assert "it broke" in first
    assert rest[-1] == r"RuntimeError: no \x1b[2Jluck"


def test_the_same_warning_in_a_loop_is_written_five_times_a_minute() -> None:
    metrics = Metrics()
    repeats = logs.Repeats(metrics)

    def passes(at_s: float, **how: object) -> bool:
        made = record("again %s", at_s, level=logging.WARNING, **how)
        made.created = at_s
        return bool(repeats.filter(made))

    assert [passes(second) for second in range(8)] == [True] * 5 + [False] * 3
    assert passes(8, line=2), "another place has its own count"
    later = record("again", level=logging.WARNING)
    later.created = 61
    assert repeats.filter(later)
    assert json_line(later)["repeated"] == 3
    assert metrics.counter("log_lines_withheld", "…").value == 3
    assert metrics.counter("log_lines", "…", ("level",)).labels("warning").value == 10


def test_information_is_never_withheld() -> None:
    repeats = logs.Repeats()
    assert all(repeats.filter(record("tick")) for _ in range(100))


def test_the_memory_of_repeats_is_bounded() -> None:
    repeats = logs.Repeats()
    for line in range(3 * logs.REPEAT_KEYS_MAX):
        repeats.filter(record("x", level=logging.ERROR, line=line))
    assert len(repeats._windows) == logs.REPEAT_KEYS_MAX


def test_a_program_logs_json_where_nobody_watches(root_logger: logging.Logger) -> None:
    stream = io.StringIO()
    logs.configure(stream, level="INFO")
    logging.getLogger("mainspring.test").info("hello", extra={"n": 1})
    logging.getLogger("mainspring.test").debug("not this")
    assert json.loads(stream.getvalue())["n"] == 1


def test_a_program_logs_for_people_on_a_terminal(root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    logs.configure(stream)
    logging.getLogger("mainspring.test").warning("careful", extra={"n": 1})
    line = stream.getvalue()
    assert line.startswith("\x1b[33m") and "careful  n=1\x1b[0m" in line
    monkeypatch.setenv("NO_COLOR", "1")
    logs.configure(stream)
    logging.getLogger("mainspring.test").warning("plainly")
    assert "\x1b" not in stream.getvalue().removeprefix(line)


def test_the_form_of_lines_can_be_chosen(root_logger: logging.Logger) -> None:
    stream = io.StringIO()
    logs.configure(stream, form="text")
    logging.getLogger("mainspring.test").info("hello")
    assert "\x1b" not in stream.getvalue() and stream.getvalue().endswith("hello\n")
