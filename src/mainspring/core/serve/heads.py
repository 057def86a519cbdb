"""Heads of HTTP/1.1 messages, sans I/O: those of requests as nearly every client writes them, and those of answers.

Two regular expressions hold a head against the grammar (RFC 9112): a method and a path; plain header lines, each name once.
Such a head says in one way only where its body ends: by `Content-Length`, or at once. Everything else (chunked bodies,
HTTP/1.0, upgrades, heads in pieces, whatever looks odd) is nothing for this reader, but for a parser of the whole language.

A connection's header lines are mostly those of the request before, so that the last few hundred kinds are remembered as read.
"""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import NamedTuple

HEAD_BYTES_MAX = 64 << 10
SIMPLE_HEADS_MAX = 1_000
PHRASES = {status.value: status.phrase for status in HTTPStatus}
REMEMBERED_MAX = 256
REMEMBERED_BYTES_MAX = 4_096
END = (b"", b"")
BODILESS = frozenset({204, 304})

Fields = tuple[tuple[bytes, bytes], ...]

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[!->@-~]*)(?:\?([!-~]*))? HTTP/1\.1")
_FIELD_LINES = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*\r\n)+")
# Headers that say more than what is asked for: how long the request is, or what becomes of the connection.
_FRAMING = re.compile(
    rb"\r\n(?:content-length|transfer-encoding|connection(?!:[ \t]*keep-alive\r\n)|expect|upgrade)[ \t]*:",
    re.IGNORECASE,
)
_STATUS_LINES = {status: b"HTTP/1.1 %d %b" % (status, text.encode()) for status, text in PHRASES.items()}


class Lines(NamedTuple):
    """The header lines of a request. `fields` are in order, `headers` the same by name; names are in lower case.

    They are shared by all requests with the same lines: nobody changes them.
    """

    fields: Fields
    headers: dict[bytes, bytes]
    body_bytes: int
    expects_continue: bool
    closes: bool


class Head(NamedTuple):
    """A request up to its body, which begins `head_bytes` further."""

    method: str
    raw_path: bytes
    query_string: bytes
    fields: Fields
    headers: dict[bytes, bytes]
    body_bytes: int
    expects_continue: bool
    closes: bool
    head_bytes: int


class HeadReader:
    """Reads the heads of one server's requests."""

    def __init__(self) -> None:
        self._remembered: dict[bytes, Lines] = {}

    def read(self, data: bytes) -> Head | None:
        """The head that `data` begins with; None where it is not whole, or not written in the plain way."""
        line_end = data.find(b"\r\n")
        end = data.find(b"\r\n\r\n", line_end) + 4
        if end < 4 or end > HEAD_BYTES_MAX:
            return None
        line = _REQUEST_LINE.fullmatch(data, 0, line_end)
        if line is None:
            return None
        text = data[line_end + 2 : end - 2]
        lines = self._remembered.get(text)
        if lines is None:
            lines = read_lines(text)
            if lines is None:
                return None
            self._remember(text, lines)
        method, raw_path, query = line.groups(b"")
        return Head(method.decode(), raw_path, query, *lines, end)

    def _remember(self, text: bytes, lines: Lines) -> None:
        if len(text) <= REMEMBERED_BYTES_MAX:
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[text] = lines


class SimpleHeads:
    """Knows which heads are so simple that an answer can be found from their bytes alone."""

    def __init__(self) -> None:
        self._simple: dict[bytes, bool] = {}

    def is_simple(self, data: bytes) -> bool:
        """Whether this is one whole GET or HEAD, and its headers leave it as simple as it looks."""
        line = data.find(b"\r\n")
        return (
            data.startswith((b"GET /", b"HEAD /"))
            and data.endswith(b" HTTP/1.1", 0, line)
            and data.find(b"\r\n\r\n", line) == len(data) - 4
            and self._leave_it_simple(data[line:])
        )

    def _leave_it_simple(self, headers: bytes) -> bool:
        known = self._simple.get(headers)
        if known is None:
            lines = headers.count(b"\r\n") == headers.count(b"\n") and b"\r\nhost:" in headers.lower()
            known = lines and len(headers) <= REMEMBERED_BYTES_MAX and not _FRAMING.search(headers)
            if len(self._simple) >= SIMPLE_HEADS_MAX:
                self._simple.clear()
            self._simple[headers] = known
        return known


def read_lines(text: bytes) -> Lines | None:
    """Header lines with their ends; None where they are not plain."""
    if not _FIELD_LINES.fullmatch(text):
        return None
    fields = []
    for line in text[:-2].split(b"\r\n"):
        name, _, value = line.partition(b":")
        fields.append((name.lower(), value.strip()))
    headers = dict(fields)
    if (
        len(headers) != len(fields)
        or b"host" not in headers
        or b"transfer-encoding" in headers
        or b"upgrade" in headers
    ):
        return None
    connection = headers.get(b"connection", b"keep-alive").lower()
    if connection not in (b"keep-alive", b"close"):
        return None
    expects = headers.get(b"expect")
    if expects is not None and expects.lower() != b"100-continue":
        return None
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 18:
        return None
    return Lines(tuple(fields), headers, int(length), expects is not None, connection == b"close")


def answer_head(status: int, fields: Iterable[tuple[bytes, bytes]], *more: bytes) -> bytes:
    """The head of an answer; `more` are whole lines, without their ends.

    Raises `ValueError` for a header that would break its framing.
    """
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status]
    lines += [b": ".join(field) for field in fields]
    lines += more
    lines += END
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1 or b"\0" in head:
        raise ValueError("a header of the answer would break its framing")
    return head
