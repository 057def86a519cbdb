"""Counts and periods: what a limit may be made of, so that every store can keep it exactly."""

from mainspring.primitives.limiter.model import BadPolicy

COUNT_MAX = 1_000_000_000
PERIOD_MAX_S = 100 * 86_400
ENTRIES_MAX = 10_000
"""The exact log and the slots of a concurrency limit keep an entry for each admission; more would make every hit slow."""


def period_ns(seconds: float) -> int:
    """A period in nanoseconds: a whole number of microseconds, a millisecond to a hundred days."""
    if not 0.001 <= seconds <= PERIOD_MAX_S:  # also refuses NaN
        raise BadPolicy("a period is a millisecond to 100 days long; use a calendar quota for more")
    return round(seconds * 1_000_000) * 1000


def check_count(name: str, value: int, most: int = COUNT_MAX) -> None:
    """Raises `BadPolicy` unless `value` is a whole number from 1 to `most`."""
    if type(value) is not int or not 1 <= value <= most:
        raise BadPolicy(f"{name} must be a whole number from 1 to {most:,}")


def ceil(amount: int, unit: int) -> int:
    """`amount` / `unit`, rounded up."""
    return -(-amount // unit)
