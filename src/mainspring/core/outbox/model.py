"""What the outbox's tables hold, in words: names that mean something there, and how long records stay."""

from collections.abc import Mapping, Sequence

import msgspec

NOBODY = ""
RELAY, EVERYTHING = "core.relay", "*"
"""The group and topic of the position up to which all events have been relayed."""

NOWHERE = -1
"""The position of a group that has none."""

Headers = Sequence[tuple[str, bytes]]
Pairs = Sequence[tuple[bytes | None, bytes, Headers]]
"""Records to append: key, value, headers."""

Partition = tuple[str, int]
Moves = Mapping[Partition, tuple[int, int]]
"""{(topic, partition): (the position as it was read, the next offset to read)}"""


class Retention(msgspec.Struct, frozen=True):
    """How long what all groups of a topic have passed is kept (both hold), and what some group has not."""

    kept_s: float = 7 * 86_400.0
    kept_records: int = 100_000
    held_s: float = 30 * 86_400.0
