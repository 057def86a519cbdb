"""Structured logs over the standard library's `logging`: JSON lines, or lines for a person where stderr is a terminal.

A module logs with `logging.getLogger(__name__)` and passes fields through `extra={...}`. Lines carry the request they
belong to. Three promises: a secret is never written (fields named like one, and texts shaped like one, are replaced), a
caller cannot forge a line or move the terminal's cursor (control characters are escaped), and the same warning in a
loop fills no disk (five a minute are written; the next one written says how many were not).

Lines are written by whoever logs, without a queue, so that the last words before a crash are on the stream.
"""

import logging
import os
import re
import sys
import time
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from mainspring.core.telemetry import trace
from mainspring.core.telemetry.metrics import Metrics

REPEATS_MAX = 5
REPEAT_WINDOW_S = 60.0
REPEAT_KEYS_MAX = 1_000
MESSAGE_CHARS_MAX = 16_384

_REDACTED = "[redacted]"
_SECRET_NAME = re.compile(
    r"password|passwd|secret|token(?!_id)|authorization|cookie|api[_-]?key|private[_-]?key|credential", re.I
)
_SECRET_TEXT = re.compile(
    r"""
      (?P<scheme>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}
    | (?P<query>[?&;\s"'](?:\w{0,40}(?:password|secret|token(?!_id)|signature|api_?key)|x-amz-\w{1,40})=)[^&\s"'<>]+
    | (?P<url>\b[a-z][a-z0-9+.-]{0,20}://[^\s/@:"']{0,200}:)[^\s/@"']{1,500}(?=@)
    | \bms_[A-Za-z0-9]{20,}
    """,
    re.I | re.X,
)
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}
_CONTROL_BUT_LINES = {code: text for code, text in _CONTROL.items() if code not in (0x09, 0x0A)}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "repeated", "taskName"}
_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m"}
_PLAIN = "\x1b[0m"


def redact(text: str) -> str:
    """The text without what is shaped like a credential: `Bearer …`, `token=…`, `//user:password@`, a token of ours."""
    return _SECRET_TEXT.sub(lambda match: f"{match['scheme'] or match['query'] or match['url'] or ''}{_REDACTED}", text)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """The fields given through `extra`, and the request that is being served."""
    found = {
        name: _REDACTED if _SECRET_NAME.search(name) else redact(value) if isinstance(value, str) else value
        for name, value in vars(record).items()
        if name not in _STANDARD
    }
    serving = trace.current()
    if serving is not None:
        found["request_id"] = serving.request_id
        if serving.trace_id:
            found["trace_id"] = serving.trace_id
    if repeated := getattr(record, "repeated", 0):
        found["repeated"] = repeated
    return found


def message(record: logging.LogRecord) -> str:
    """The message with its arguments; one whose arguments do not fit is shown as it was written, not raised."""
    try:
        text = record.getMessage()
    except (TypeError, ValueError, KeyError):
        text = f"{record.msg} {record.args!r}"
    return redact(text[: 2 * MESSAGE_CHARS_MAX])[:MESSAGE_CHARS_MAX]  # so that the cut leaves no half of a secret


class JsonLines(logging.Formatter):
    """One JSON object a line: `at` (RFC 3339, UTC), `level`, `logger`, `message`, the fields, and `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message(record),
        }
        line |= {name: value for name, value in fields(record).items() if name not in line}
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        try:
            encoded = msgspec.json.encode(line, enc_hook=repr)
        except (ValueError, TypeError, RecursionError):  # lone surrogates, keys that are no text, circles
            encoded = msgspec.json.encode({name: repr(value) for name, value in line.items()})
        return encoded.decode()


class HumanLines(logging.Formatter):
    """One line for a person, coloured by level where `colour`; a traceback follows on lines of its own."""

    def __init__(self, *, colour: bool = False) -> None:
        super().__init__()
        self._colours = _COLOURS if colour else {}

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        colour = self._colours.get(record.levelname, "")
        place = record.name.removeprefix("mainspring.")
        shown = "".join(f"  {name}={value}" for name, value in fields(record).items())
        text = f"{at}.{int(record.msecs):03} {record.levelname:<7} {place}  {message(record)}{shown}"
        line = f"{colour}{text.translate(_CONTROL)}{_PLAIN if colour else ''}"
        if record.exc_info:
            line += "\n" + redact(self.formatException(record.exc_info)).translate(_CONTROL_BUT_LINES)
        return line.encode("utf-8", "backslashreplace").decode()


class Repeats(logging.Filter):
    """Lets a warning or error through five times a minute for the place that logs it and the kind of its exception.

    The first one let through again carries `repeated`, the number of those that were not. It remembers 1,000 places.
    """

    def __init__(self, metrics: Metrics | None = None) -> None:
        super().__init__()
        self._windows: OrderedDict[tuple[object, ...], list[float]] = OrderedDict()
        registry = metrics or Metrics()
        self._lines = registry.counter("log_lines", "Log lines by level, written or not", ("level",))
        self._withheld = registry.counter("log_lines_withheld", "Repeated warnings and errors that were not written")

    def filter(self, record: logging.LogRecord) -> bool:
        self._lines.labels(record.levelname.lower()).inc()
        if record.levelno < logging.WARNING:
            return True
        key = (record.name, record.levelno, record.lineno, record.exc_info[0] if record.exc_info else None)
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= REPEAT_KEYS_MAX:
                self._windows.popitem(last=False)
            window = self._windows[key] = [record.created, 0]
        elif not 0 <= record.created - window[0] < REPEAT_WINDOW_S:
            record.repeated = max(0, int(window[1]) - REPEATS_MAX)
            window[:] = [record.created, 0]
        window[1] += 1
        if window[1] > REPEATS_MAX:
            self._withheld.inc()
            return False
        return True


def configure(
    stream: TextIO | None = None,
    level: int | str = logging.INFO,
    metrics: Metrics | None = None,
    form: str = "auto",
) -> logging.Handler:
    """Makes `stream` (stderr) the one place where this process logs; gives the handler. Not for libraries to call.

    `form` is `json`, `text`, or `auto`: text where `stream` is a terminal.
    """
    stream = stream if stream is not None else sys.stderr
    handler = logging.StreamHandler(stream)
    if form == "text" or (form == "auto" and stream.isatty()):
        handler.setFormatter(HumanLines(colour=stream.isatty() and "NO_COLOR" not in os.environ))
    else:
        handler.setFormatter(JsonLines())
    handler.addFilter(Repeats(metrics))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)
    return handler
