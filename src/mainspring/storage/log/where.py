"""The filter of a person who looks for records: a condition on their JSON values, read once and asked of every record.

    status = "paid" and (user.country = "AT" or items[0].price > 100) and not $key ~ "test"

A path leads into the value, read as JSON; one that leads nowhere, or into a value that is no JSON, is null. `$key`, `$value`
and `$header.NAME` are text, `$offset`, `$partition` and `$timestamp` (milliseconds) numbers. `=` and `!=` compare as JSON does,
`<`, `<=`, `>` and `>=` numbers with numbers and texts with texts, `~` asks whether a text contains another. A path alone asks
whether something is there that is neither null nor false. `not` binds before `and`, `and` before `or`.
"""

import re
from collections.abc import Callable
from operator import ge, gt, le, lt
from typing import Any, NamedTuple

import msgspec

from mainspring.core.problems import Problem
from mainspring.storage.log.records import Read

LETTERS_MAX = 1_000
DEPTH_MAX = 32

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>"(?:[^"\\]|\\.)*")
      | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w]))
      | (?P<name>\$?[A-Za-z_][\w-]*)
      | (?P<sign><=|>=|!=|==|[=<>~().\[\]])
    )""",
    re.VERBOSE,
)
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}
_WORDS = {"true": True, "false": False, "null": None}
_RESERVED = frozenset({"and", "or", "not", *_WORDS})
_JSON = msgspec.json.Decoder().decode
_UNREAD = object()


class InvalidFilter(Problem):
    """`at` is the place in the filter, counted in letters from 0."""

    status, type, title = 422, "log/invalid-filter", "The filter cannot be read"


class Subject:
    """A record that is asked about; its value is read as JSON at most once."""

    __slots__ = ("_json", "partition", "record")

    def __init__(self, record: Read, partition: int) -> None:
        self.record = record
        self.partition = partition
        self._json: Any = _UNREAD

    @property
    def json(self) -> Any:
        if self._json is _UNREAD:
            try:
                self._json = None if self.record.value is None else _JSON(self.record.value)
            except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
                self._json = None
        return self._json


Test = Callable[[Subject], bool]
Term = Callable[[Subject], Any]


class Filter:
    """Says of a record whether it fits. Raises `InvalidFilter` for a text that is no condition."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._test = _Reader(text).whole()

    def __call__(self, record: Read, partition: int) -> bool:
        return self._test(Subject(record, partition))


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class _Reader:
    """Recursive descent over the tokens; every level of brackets and of `not` is counted."""

    def __init__(self, text: str) -> None:
        if len(text) > LETTERS_MAX:
            raise InvalidFilter(f"A filter has at most {LETTERS_MAX:,} letters", pointer="/query/where", at=LETTERS_MAX)
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0

    def whole(self) -> Test:
        test = self._either()
        if self._peek().kind != "end":
            raise self._unexpected("'and', 'or' or the end")
        return test

    def _either(self) -> Test:
        tests = [self._all()]
        while self._took("or"):
            tests.append(self._all())
        return tests[0] if len(tests) == 1 else lambda subject: any(test(subject) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self._took("and"):
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else lambda subject: all(test(subject) for test in tests)

    def _one(self) -> Test:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise InvalidFilter(f"Nested deeper than {DEPTH_MAX}", pointer="/query/where", at=self._peek().at)
        if self._took("not"):
            inner = self._one()
            test: Test = lambda subject: not inner(subject)  # noqa: E731
        elif self._took("("):
            test = self._either()
            self._expect(")")
        else:
            test = self._comparison()
        self._depth -= 1
        return test

    def _comparison(self) -> Test:
        term = self._path()
        sign = self._peek().text if self._peek().kind == "sign" else ""
        if sign in ("=", "==", "!="):
            self._next += 1
            wanted = self._literal()
            if sign == "!=":
                return lambda subject: not _same(term(subject), wanted)
            return lambda subject: _same(term(subject), wanted)
        if sign == "~":
            self._next += 1
            part = self._literal()
            if not isinstance(part, str):
                raise self._unexpected("a text in quotes", back=1)
            return lambda subject: isinstance(found := term(subject), str) and part in found
        if sign in _ORDERS:
            self._next += 1
            order, bound = _ORDERS[sign], self._literal()
            if isinstance(bound, bool) or bound is None:
                raise self._unexpected("a number or a text", back=1)
            kind = str if isinstance(bound, str) else int | float
            return lambda subject: _is(found := term(subject), kind) and order(found, bound)
        return lambda subject: (found := term(subject)) is not None and found is not False

    def _path(self) -> Term:
        token = self._take()
        if token.kind == "text":
            first: str = self._text(token)
        elif token.kind == "name" and token.text not in _RESERVED:
            first = token.text
            if first.startswith("$"):
                return self._special(token)
        else:
            raise self._unexpected("a path", back=1)
        return _walk([first, *self._steps()])

    def _steps(self) -> list[str | int]:
        steps: list[str | int] = []
        while True:
            if self._took("."):
                steps.append(self._name())
            elif self._took("["):
                token = self._take()
                if token.kind == "number" and token.text.isdigit():
                    steps.append(int(token.text))
                elif token.kind == "text":
                    steps.append(self._text(token))
                else:
                    raise self._unexpected("a number or a text in quotes", back=1)
                self._expect("]")
            else:
                return steps

    def _special(self, token: _Token) -> Term:
        match token.text:
            case "$key":
                return lambda subject: _as_text(subject.record.key)
            case "$value":
                return lambda subject: _as_text(subject.record.value)
            case "$offset":
                return lambda subject: subject.record.offset
            case "$partition":
                return lambda subject: subject.partition
            case "$timestamp":
                return lambda subject: subject.record.timestamp_ms
            case "$header":
                self._expect(".")
                wanted = self._name()
                return lambda subject: next(
                    (_as_text(value) for name, value in subject.record.headers if name == wanted), None
                )
        raise self._unexpected("$key, $value, $header.NAME, $offset, $partition or $timestamp", back=1)

    def _name(self) -> str:
        token = self._take()
        if token.kind == "name":
            return token.text
        if token.kind == "text":
            return self._text(token)
        raise self._unexpected("a name", back=1)

    def _literal(self) -> Any:
        token = self._take()
        if token.kind == "text":
            return self._text(token)
        if token.kind == "number":
            return _JSON(token.text)
        if token.kind == "name" and token.text in _WORDS:
            return _WORDS[token.text]
        raise self._unexpected("a text in quotes, a number, true, false or null", back=1)

    def _text(self, token: _Token) -> str:
        try:
            return msgspec.json.decode(token.text, type=str)
        except msgspec.MsgspecError:
            raise InvalidFilter("A text in quotes is written as in JSON", pointer="/query/where", at=token.at) from None

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._peek()
        if token.kind != "end":
            self._next += 1
        return token

    def _took(self, text: str) -> bool:
        token = self._peek()
        if token.kind in ("sign", "name") and token.text == text:
            self._next += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._took(text):
            raise self._unexpected(f"'{text}'")

    def _unexpected(self, wanted: str, back: int = 0) -> InvalidFilter:
        token = self._tokens[self._next]
        if back and token.kind != "end":
            token = self._tokens[self._next - back]
        found = f"'{token.text}'" if token.text else "the end"
        return InvalidFilter(f"Expected {wanted}, found {found}", pointer="/query/where", at=token.at)


def _tokens(text: str) -> list[_Token]:
    tokens = []
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise InvalidFilter(f"Cannot read {text[at : at + 20].strip()!r}", pointer="/query/where", at=at)
        tokens.append(_Token(found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)))
        at = found.end()
    tokens.append(_Token("end", "", end))
    return tokens


def _walk(steps: list[str | int]) -> Term:
    def walk(subject: Subject) -> Any:
        found = subject.json
        for step in steps:
            if isinstance(found, dict) and isinstance(step, str):
                found = found.get(step)
            elif isinstance(found, list) and isinstance(step, int) and step < len(found):
                found = found[step]
            else:
                return None
        return found

    return walk


def _same(found: Any, wanted: Any) -> bool:
    """Equal as JSON has it, where true is not 1."""
    return isinstance(found, bool) == isinstance(wanted, bool) and bool(found == wanted)


def _is(found: Any, kind: Any) -> bool:
    return isinstance(found, kind) and not isinstance(found, bool)


def _as_text(data: bytes | None) -> str | None:
    return None if data is None else data.decode(errors="replace")
