"""The settings that one group may have of its own, under Kafka's names of the resource GROUP.

A group without them has the node's. What is set acts at once: on timeouts from the next heartbeat on, on locks from the next
record that is given out, on where a share group begins in partitions that it has not read.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from mainspring.storage.log.errors import InvalidConfig
from mainspring.storage.log.groups.settings import GroupSettings

BY_DURATION = "by_duration:"
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d{1,9})?)S)?)?", re.ASCII | re.IGNORECASE)
_INT_MAX = (1 << 31) - 1


class GroupConfig(msgspec.Struct, frozen=True):
    """One of them: the field of `GroupSettings` that it replaces, and Kafka's name of its type."""

    field: str
    kind: str
    help: str
    parse: Callable[[str], Any]


def overridden(settings: GroupSettings, given: Mapping[str, str]) -> GroupSettings:
    """`settings` with a group's own. Raises `InvalidConfig` in Kafka's words."""
    changes: dict[str, Any] = {}
    for name, text in given.items():
        config = GROUP_CONFIGS.get(name)
        if config is None:
            raise InvalidConfig(f"Unknown group config name: {name}", setting=name)
        try:
            changes[config.field] = config.parse(text)
        except ValueError as error:
            raise InvalidConfig(f"Invalid value {text} for configuration {name}: {error}", setting=name) from None
        for bound, beyond, words in (("min", -1, "greater"), ("max", 1, "less")):
            limit = getattr(settings, f"{config.field}_{bound}", None)
            if limit is not None and (changes[config.field] - limit) * beyond > 0:
                broker_name = f"group.{name.replace('.', f'.{bound}.', 1)}"
                raise InvalidConfig(f"{name} must be {words} than or equal to {broker_name}", setting=name)
    whole: GroupSettings = msgspec.structs.replace(settings, **changes)
    for kind in ("consumer", "share"):
        session_ms, beat_ms = (getattr(whole, f"{kind}_{one}_ms") for one in ("session_timeout", "heartbeat_interval"))
        if session_ms <= beat_ms and any(name.startswith(kind) for name in given):
            raise InvalidConfig(f"{kind}.session.timeout.ms must be greater than {kind}.heartbeat.interval.ms")
    return whole


def duration_ms(reset: str) -> int:
    """How long ago `by_duration:PnDTnHnMn.nS` is. Raises `ValueError`."""
    found = _DURATION.fullmatch(reset.removeprefix(BY_DURATION))
    if found is None or not any(found.groups()):
        raise ValueError(reset)
    days, hours, minutes, seconds = (float(one or 0) for one in found.groups())
    return int((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000)


def _milliseconds(lowest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = _INT_MAX + 1
        if not -_INT_MAX <= number <= _INT_MAX:
            raise ValueError("Not a number of type INT")
        if number < lowest:
            raise ValueError(f"Value must be at least {lowest}")
        return number

    return parse


def _reset(text: str) -> str:
    try:
        if text not in ("earliest", "latest") and (not text.startswith(BY_DURATION) or duration_ms(text) < 0):
            raise ValueError
    except ValueError:
        raise ValueError(
            f"Invalid value `{text}` for configuration share.auto.offset.reset. The value must be either 'earliest', "
            "'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'."
        ) from None
    return text


def _isolation(text: str) -> str:
    if text not in ("read_committed", "read_uncommitted"):
        raise ValueError("String must be one of: read_committed, read_uncommitted")
    return text


GROUP_CONFIGS: dict[str, GroupConfig] = {
    "consumer.heartbeat.interval.ms": GroupConfig(
        "consumer_heartbeat_interval_ms", "INT", "How often a member says that it lives", _milliseconds(1)
    ),
    "consumer.session.timeout.ms": GroupConfig(
        "consumer_session_timeout_ms", "INT", "When a silent member is put out", _milliseconds(1)
    ),
    "share.auto.offset.reset": GroupConfig(
        "share_auto_offset_reset", "STRING", "Where a share group begins: earliest, latest or by_duration", _reset
    ),
    "share.heartbeat.interval.ms": GroupConfig(
        "share_heartbeat_interval_ms", "INT", "How often a member says that it lives", _milliseconds(1)
    ),
    "share.isolation.level": GroupConfig(
        "share_isolation_level", "STRING", "Whether a share group sees open and aborted transactions", _isolation
    ),
    "share.record.lock.duration.ms": GroupConfig(
        "share_record_lock_ms", "INT", "How long a delivered record is one member's", _milliseconds(1_000)
    ),
    "share.session.timeout.ms": GroupConfig(
        "share_session_timeout_ms", "INT", "When a silent member is put out", _milliseconds(1)
    ),
}
