"""Lifecycle rules: what expires, moves to another storage class or is given up, after so many days.

A walk goes over a bucket's versions in order and decides on each from its row and its neighbours alone; the decision is taken
again in the transaction that acts on it, so that an object written meanwhile is never the one that goes. As in S3, days are
counted from the creation of a version (for noncurrent ones: of the version that replaced it) and end at midnight UTC.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import and_, bindparam, delete, or_, select

from mainspring.core.database import Bytes, Int64
from mainspring.core.ports import Connection
from mainspring.storage.objects import lookups, versions
from mainspring.storage.objects.errors import Locked, NoSuchVersion
from mainspring.storage.objects.events import emit
from mainspring.storage.objects.lookups import Row, name_of
from mainspring.storage.objects.model import Bucket, Versioning, decode_about, encode_about
from mainspring.storage.objects.numbering import Numbers
from mainspring.storage.objects.tables import version

KIND = "lifecycle.rules"
"""The setting under which the door stores the rules as JSON (a list of `Rule`), beside the document that it was given."""

ROWS = 500
DAY_S = 86_400
CURRENT, MARKER, VERSION, CLASS = "current", "marker", "version", "class"

_v = version.c
_WALK = (
    select(_v.key, _v.rank, _v.flags, _v.gone, _v.size, _v.etag, _v.page, _v.pieces, _v.about, _v.tags, _v.lock)
    .where(
        _v.bucket == bindparam("of_bucket"),
        _v.gone.is_(None),
        or_(
            _v.key > bindparam("key_after", type_=Bytes),
            and_(_v.key == bindparam("key_after", type_=Bytes), _v.rank > bindparam("rank_after", type_=Int64)),
        ),
    )
    .order_by(_v.key, _v.rank)
    .limit(bindparam("count"))
)
_SWEEP = select(_v.bucket, _v.key, _v.rank).where(_v.gone < bindparam("before", type_=Int64)).limit(bindparam("count"))
_FORGET = delete(version).where(
    _v.bucket == bindparam("of_bucket"), _v.key == bindparam("of_key"), _v.rank == bindparam("of_rank")
)


class Transition(msgspec.Struct, frozen=True):
    """To `storage_class` after `days`, or at `date_us`; of noncurrent versions all but the `newer` newest."""

    storage_class: str
    days: int | None = None
    date_us: int | None = None
    newer: int = 0


class Rule(msgspec.Struct, frozen=True):
    """One rule. The filter is all of `prefix`, `tags`, `size_over` and `size_under` (bytes, exclusive)."""

    id: str = ""
    enabled: bool = True
    prefix: str = ""
    tags: dict[str, str] = {}
    size_over: int | None = None
    size_under: int | None = None
    expire_days: int | None = None
    expire_date_us: int | None = None
    expired_marker: bool = False
    noncurrent_days: int | None = None
    noncurrent_newer: int = 0
    abort_days: int | None = None
    transitions: tuple[Transition, ...] = ()
    noncurrent_transitions: tuple[Transition, ...] = ()


class Action(NamedTuple):
    """What is to be done to one version: `current` expires it, `marker` and `version` remove it, `class` moves it."""

    kind: str
    key: str
    row: Row
    storage_class: str = ""


class Days:
    """How long a day is, and when a number of them has passed."""

    def __init__(self, day_s: float) -> None:
        self.day_us = int(day_s * 1_000_000)
        self._to_midnight = day_s == DAY_S

    def due_us(self, since_us: int, days: int) -> int:
        due = since_us + days * self.day_us
        return -(-due // self.day_us) * self.day_us if self._to_midnight else due


class Walk:
    """The state of a walk over one bucket: the rules, and what of the current key has been seen."""

    def __init__(self, rules: Sequence[Rule], now_us: int, days: Days) -> None:
        self._rules = [rule for rule in rules if rule.enabled]
        self._now_us = now_us
        self._days = days
        self._key: bytes | None = None
        self._newer: Row | None = None
        self._noncurrent = 0
        self._held: tuple[str, Row] | None = None

    def decide(self, key: bytes, row: Row) -> Iterator[Action]:
        """Takes the next row in order; gives what is to be done to it or to the one before."""
        if key != self._key:
            yield from self.end()
            self._key, self._newer, self._noncurrent = key, None, 0
            yield from self._of_current(key.decode(), row)
        else:
            self._held = None  # a marker with versions below it is not an expired one
            self._noncurrent += 1
            yield from self._of_noncurrent(key.decode(), row)
        self._newer = row

    def end(self) -> Iterator[Action]:
        """What is to be done to the last key."""
        if self._held is not None:
            yield Action(MARKER, *self._held)
        self._held = None

    def _of_current(self, key: str, row: Row) -> Iterator[Action]:
        for rule in self._matching(key, row):
            if row.marker:
                due = rule.expire_days is not None and self._passed(row.seq, rule.expire_days)
                if rule.expired_marker or due:
                    self._held = (key, row)
                continue
            expires = rule.expire_days is not None and self._passed(row.seq, rule.expire_days)
            if expires or (rule.expire_date_us is not None and self._now_us >= rule.expire_date_us):
                yield Action(CURRENT, key, row)
                return
        if not row.marker:
            yield from self._transition(key, row, row.seq, lambda rule: rule.transitions)

    def _of_noncurrent(self, key: str, row: Row) -> Iterator[Action]:
        since_us = self._newer.seq if self._newer is not None else row.seq
        for rule in self._matching(key, row):
            if rule.noncurrent_days is None or self._noncurrent <= rule.noncurrent_newer:
                continue
            if self._passed(since_us, rule.noncurrent_days):
                yield Action(VERSION, key, row)
                return
        if not row.marker:
            yield from self._transition(key, row, since_us, lambda rule: rule.noncurrent_transitions)

    def _transition(
        self, key: str, row: Row, since_us: int, of: Callable[[Rule], Sequence[Transition]]
    ) -> Iterator[Action]:
        """To the class of the transition that was due last."""
        due = [
            (moment, one.storage_class)
            for rule in self._matching(key, row)
            for one in of(rule)
            if self._noncurrent > one.newer or not self._noncurrent
            if (moment := self._moment(since_us, one)) <= self._now_us
        ]
        if due and (wanted := max(due)[1]) != decode_about(row.about).storage_class:
            yield Action(CLASS, key, row, wanted)

    def _moment(self, since_us: int, one: Transition) -> int:
        return one.date_us if one.date_us is not None else self._days.due_us(since_us, one.days or 0)

    def _passed(self, since_us: int, days: int) -> bool:
        return self._now_us >= self._days.due_us(since_us, days)

    def _matching(self, key: str, row: Row) -> Iterator[Rule]:
        for rule in self._rules:
            if not key.startswith(rule.prefix):
                continue
            if row.marker:
                if not rule.tags and rule.size_over is None and rule.size_under is None:
                    yield rule
                continue
            tags = row.tags or {}
            if any(tags.get(name) != value for name, value in rule.tags.items()):
                continue
            if rule.size_over is not None and row.size <= rule.size_over:
                continue
            if rule.size_under is not None and row.size >= rule.size_under:
                continue
            yield rule


def rows_after(connection: Connection, bucket: int, key: bytes, rank: int) -> list[tuple[bytes, Row]]:
    """The next rows of a bucket in order."""
    parameters = {"of_bucket": bucket, "key_after": key, "rank_after": rank, "count": ROWS}
    return [(row[0], Row(*row[1:])) for row in connection.execute(_WALK, parameters).all()]


def act(connection: Connection, numbers: Numbers, bucket_name: str, actions: Sequence[Action]) -> int:
    """Does what of `actions` is still right; gives how many were."""
    bucket = lookups.find_bucket(connection, bucket_name)
    return sum(_act(connection, numbers, bucket, action) for action in actions)


def sweep(connection: Connection, before_us: int) -> int:
    """Forgets rows that were kept for listings which have expired; gives how many, at most 500."""
    rows = connection.execute(_SWEEP, {"before": before_us, "count": ROWS}).all()
    for bucket, key, rank in rows:
        connection.execute(_FORGET, {"of_bucket": bucket, "of_key": key, "of_rank": rank})
    return len(rows)


def due_for_abort(rules: Sequence[Rule], now_us: int, days: Days) -> Iterator[tuple[str, int]]:
    """(prefix, latest beginning) of uploads that are to be given up."""
    for rule in rules:
        if rule.enabled and rule.abort_days is not None and not rule.tags:
            yield rule.prefix, now_us - rule.abort_days * days.day_us


def _act(connection: Connection, numbers: Numbers, bucket: Bucket, action: Action) -> bool:
    kind, key, before, storage_class = action
    newest = lookups.newest_there(connection, bucket.id, key)
    if kind in (CURRENT, MARKER) and (newest is None or newest.rank != before.rank):
        return False
    try:
        row = lookups.find_version(connection, bucket.id, key, name_of(before))
    except NoSuchVersion:
        return False
    if row.rank != before.rank:
        return False
    if kind == CURRENT:
        name = None if bucket.versioning != Versioning.NEVER else name_of(row)
        versions.remove(connection, numbers, bucket, key, name, event="LifecycleExpiration")
        return True
    if kind == CLASS:
        about = msgspec.structs.replace(decode_about(row.about), storage_class=storage_class)
        versions.set_about(connection, bucket, key, row, encode_about(about))
        at = numbers.next_in(connection)
        emit(connection, bucket.name, "LifecycleTransition", key, at, name_of(row), row.size, row.etag)
        return True
    try:
        versions.remove(connection, numbers, bucket, key, name_of(row), event="LifecycleExpiration")
    except Locked:
        return False
    return True


def decode_rules(document: bytes) -> list[Rule]:
    rules: Any = msgspec.json.decode(document, type=list[Rule])
    return list(rules)
