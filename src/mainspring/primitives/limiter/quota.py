"""Calendar quotas: so much in each day, month or year of a time zone, whatever daylight saving does to its length."""

from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import ClassVar, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from mainspring.primitives.limiter.measures import COUNT_MAX, ceil
from mainspring.primitives.limiter.model import BadPolicy, State, Verdict
from mainspring.primitives.limiter.windows import counted, readjusted

Unit = Literal["day", "week", "month", "year"]
_SHORTEST_NS = {
    # The shortest that each can be where a clock is put forward by an hour or two.
    "day": 22 * 3_600 * 10**9,
    "week": (7 * 24 - 2) * 3_600 * 10**9,
    "month": (28 * 24 - 2) * 3_600 * 10**9,
    "year": (365 * 24 - 2) * 3_600 * 10**9,
}
_TYPICAL_NS = {
    "day": 86_400 * 10**9,
    "week": 7 * 86_400 * 10**9,
    "month": 30 * 86_400 * 10**9,
    "year": 365 * 86_400 * 10**9,
}


class Quota(msgspec.Struct, frozen=True, dict=True, tag="quota"):
    """`limit` in each calendar `unit` (weeks begin on Monday) as the clocks of `zone` show it. State: (start, count).

    Bound: limit in each calendar period; limit·(⌈L / shortest⌉ + 1) in any window, `shortest` being the shortest that
    such a period can be. A store's wall clock that is put forward over a boundary opens the next period early.
    """

    kind: ClassVar[str] = "quota"
    calendar: ClassVar[bool] = True

    limit: int
    unit: Unit
    zone: str = "UTC"

    def __post_init__(self) -> None:
        if type(self.limit) is not int or not 1 <= self.limit <= COUNT_MAX:
            raise BadPolicy(f"limit must be a whole number from 1 to {COUNT_MAX:,}")
        if self.unit not in get_args(Unit):
            raise BadPolicy(f"a quota is per {', '.join(get_args(Unit))}, not per {self.unit!r}")
        zone(self.zone)

    @property
    def most(self) -> int:
        return self.limit

    @property
    def span_ns(self) -> int:
        return _TYPICAL_NS[self.unit]

    @property
    def fingerprint(self) -> str:
        return f"{self.kind}-{self.unit}-{self.zone}"

    @cached_property
    def _seen(self) -> list[tuple[int, int]]:
        return []

    def period(self, now_ns: int) -> tuple[int, int]:
        """The period [start, end) that holds `now_ns`."""
        if self._seen and self._seen[0][0] <= now_ns < self._seen[0][1]:
            return self._seen[0]
        self._seen[:] = [period(self.unit, self.zone, now_ns)]
        return self._seen[0]

    def current(self, state: State, now_ns: int) -> tuple[int, int, int]:
        """Start and end of the period that now belongs to, and what it has admitted."""
        start, end = self.period(now_ns)
        if not state or state[0] < start:
            return start, end, 0
        if state[0] == start:
            return start, end, state[1]
        # The clock was set back over a boundary: the later period is held to until it comes.
        following, after = self.period(end)
        return following, after, state[1] if state[0] == following else self.limit

    def hit(self, state: State, now_ns: int, cost: int) -> tuple[State, Verdict]:
        start, end, count = self.current(state, now_ns)
        return counted(start, count, end, now_ns, cost, self.limit, self.span_ns)

    def adjust(self, state: State, now_ns: int, delta: int, at_ns: int) -> State:
        start, _, count = self.current(state, now_ns)
        return start, readjusted(count, delta, at_ns >= start, self.limit)

    def expires_ns(self, state: State) -> int:
        return self.period(state[0])[1] if state else 0

    def bound(self, length_ns: int) -> int:
        return self.limit * (ceil(length_ns, _SHORTEST_NS[self.unit]) + 1)


def zone(name: str) -> ZoneInfo:
    """A time zone of the IANA database. Raises `BadPolicy`, also for names that would leave the database's folder."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadPolicy(f"there is no time zone {name!r}; use a name such as Europe/Berlin") from None


def period(unit: Unit, zone_name: str, now_ns: int) -> tuple[int, int]:
    """Start and end, in nanoseconds since 1970 UTC, of the calendar period of `zone_name` that holds `now_ns`."""
    where = zone(zone_name)
    local = datetime.fromtimestamp(now_ns // 10**9, where)
    start = datetime(local.year, local.month, local.day, tzinfo=where)
    if unit == "week":
        start -= timedelta(days=start.weekday())
    elif unit == "month":
        start = start.replace(day=1)
    elif unit == "year":
        start = start.replace(day=1, month=1)
    return _instant_ns(start), _instant_ns(_following(start, unit))


def _following(start: datetime, unit: Unit) -> datetime:
    if unit == "month":
        return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    if unit == "year":
        return start.replace(year=start.year + 1)
    return start + timedelta(days=7 if unit == "week" else 1)


def _instant_ns(local: datetime) -> int:
    """A local midnight that the clocks skip is the moment that they jump; one that they show twice is the first."""
    return int(local.astimezone(UTC).timestamp()) * 10**9
