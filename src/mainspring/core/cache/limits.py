"""What both adapters of the `Cache` port accept, so that code which works embedded works on a server too."""

import math
import re

KEY_LENGTH_MAX = 1_024
VALUE_BYTES_MAX = 8 << 20
MESSAGE_BYTES_MAX = 64 << 10
TTL_S_MAX = 366 * 86_400.0
BACKLOG_MESSAGES_MAX = 1_000
"""A subscriber this far behind loses the oldest message for each new one."""

LOCKS_MAX = 100_000
NOT_A_COUNTER = "the value is not a 64-bit integer, or the sum would not be one"

_COUNTER = re.compile(rb"0|-?[1-9][0-9]{0,18}")
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


def check_key(key: str) -> None:
    if not 0 < len(key) <= KEY_LENGTH_MAX:
        raise ValueError(f"a cache key has 1 to {KEY_LENGTH_MAX} characters, this one has {len(key)}")


def check_message(message: bytes) -> None:
    if len(message) > MESSAGE_BYTES_MAX:
        raise ValueError(f"a message has at most {MESSAGE_BYTES_MAX} bytes, this one has {len(message)}")


def ttl_ms(ttl_s: float) -> int:
    """Whole milliseconds, at least one. Raises `ValueError` for what is no time to live."""
    if not 0 < ttl_s <= TTL_S_MAX:
        raise ValueError(f"a time to live is more than 0 and at most {TTL_S_MAX:.0f} s, not {ttl_s}")
    return max(1, math.ceil(ttl_s * 1000))


def counter_sum(value: bytes, by: int) -> int:
    """The next value of a counter, as Redis computes it. Raises `ValueError`."""
    if _COUNTER.fullmatch(value):
        total = int(value) + by
        if all(INT64_MIN <= number <= INT64_MAX for number in (int(value), by, total)):
            return total
    raise ValueError(NOT_A_COUNTER)
