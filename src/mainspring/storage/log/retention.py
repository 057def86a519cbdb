"""Which segments have had their time: by age, by the partition's size, or because all of them lies before the log start."""

from collections.abc import Sequence

from .segments import Segment
from .settings import TopicConfig


def expired(
    segments: Sequence[Segment], config: TopicConfig, *, now_ms: int, log_start: int, high_watermark: int, end: int
) -> int:
    """How many of the oldest segments may go.

    One that is not wholly below the high watermark stays. The active one may be among them: it is closed first.
    """
    count = 0
    excess = sum(segment.size for segment in segments) - config.retention_bytes
    for at, segment in enumerate(segments):
        upper = segments[at + 1].base if at + 1 < len(segments) else end
        if upper > high_watermark or not segment.size:
            break
        is_passed = upper <= log_start
        is_old = is_large = False
        if config.is_deleted_by_age:
            is_old = 0 <= config.retention_ms < now_ms - segment.max_timestamp and segment.max_timestamp >= 0
            is_large = config.retention_bytes >= 0 and excess >= segment.size
        if not (is_passed or is_old or is_large):
            break
        excess -= segment.size
        count += 1
    return count
