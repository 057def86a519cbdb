"""A dry run: what a policy would have refused of the traffic that an access log has recorded, by key and by minute.

Reads the common and the combined format of Apache and nginx, also with a last field for the time taken; other lines are
counted and left out. Lines are put in the order of their times first, for servers write a request when it ends.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mainspring.primitives.limiter.keys import network_of
from mainspring.primitives.limiter.memory import MemoryLimiter
from mainspring.primitives.limiter.plans import Written

TOP_KEYS = 50
MINUTES_MAX = 10_000
_LINE = re.compile(
    r'(?P<address>\S+) \S+ (?P<user>\S+) \[(?P<time>[^\]]{20,40})\] "[A-Z]+ (?P<target>\S+)[^"]*" \d{3} '
)

KeyName = Literal["address", "user", "path", "route", "everyone"]
"""`route` is the path's first segment; `everyone` puts all requests under one key."""


class Hit(msgspec.Struct, frozen=True):
    """One request of a log."""

    at_s: int
    address: str
    user: str
    path: str


class KeyLoss(msgspec.Struct, frozen=True):
    """What one key would have lost."""

    key: str
    admitted: int
    refused: int


class Minute(msgspec.Struct, frozen=True):
    at: str
    admitted: int
    refused: int


class Replayed(msgspec.Struct, frozen=True):
    """`unread` lines are in no format that is known. Keys are those that lose most, at most 50, minutes in order."""

    lines: int
    unread: int
    admitted: int
    refused: int
    keys_refused: int
    keys: list[KeyLoss]
    minutes: list[Minute]


class Replay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A log, a policy in text form, and the key for each of its levels."""

    log: Annotated[str, Meta(max_length=1_000_000)]
    policy: Annotated[str, Meta(max_length=1_000)]
    keys: Annotated[tuple[KeyName, ...], Meta(min_length=1, max_length=8)] = ("address",)


def replay_log(lines: Iterable[str], policy: Written, keys: Sequence[KeyName] = ("address",)) -> Replayed:
    """Runs every request through the policy at the time at which it was made.

    Raises `BadPolicy`, and `BadKey` where there is not one key for each level.
    """
    clock = LogClock()
    limiter = MemoryLimiter(clock, replay=policy)
    limiter.peek("replay", list(keys))  # refuses keys that do not fit before anything is read
    read = [parse_line(line) for line in lines if line.strip()]
    hits = sorted((hit for hit in read if hit is not None), key=lambda hit: hit.at_s)
    key_of = [_KEYS[name] for name in keys]
    admitted, refused = Counter[str](), Counter[str]()
    by_minute: dict[int, list[int]] = {}
    for hit in hits:
        clock.at_s = hit.at_s
        key = [one(hit) for one in key_of]
        passed = bool(limiter.hit("replay", key))
        (admitted if passed else refused)[" · ".join(key)] += 1
        by_minute.setdefault(hit.at_s // 60, [0, 0])[not passed] += 1
    return Replayed(
        lines=len(read),
        unread=len(read) - len(hits),
        admitted=admitted.total(),
        refused=refused.total(),
        keys_refused=len(refused),
        keys=[KeyLoss(key, admitted[key], count) for key, count in refused.most_common(TOP_KEYS)],
        minutes=[
            Minute(datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), *counts)
            for minute, counts in sorted(by_minute.items())[:MINUTES_MAX]
        ],
    )


def parse_line(line: str) -> Hit | None:
    """One line of an access log, or None where it is in no format that is known."""
    found = _LINE.match(line)
    if found is None:
        return None
    try:
        at = datetime.strptime(found["time"], "%d/%b/%Y:%H:%M:%S %z")
    except ValueError:
        return None
    return Hit(int(at.timestamp()), found["address"], found["user"], found["target"].partition("?")[0])


class LogClock:
    """The time of the line that is being replayed."""

    def __init__(self) -> None:
        self.at_s = 0

    def wall_ns(self) -> int:
        return self.at_s * 10**9

    mono_ns = wall_ns

    async def sleep(self, seconds: float) -> None:
        raise RuntimeError("nothing waits while a log is replayed")


_KEYS: dict[KeyName, Callable[[Hit], str]] = {
    "address": lambda hit: network_of(hit.address),
    "user": lambda hit: hit.user,
    "path": lambda hit: hit.path,
    "route": lambda hit: "/" + hit.path.strip("/").partition("/")[0],
    "everyone": lambda hit: "*",
}
