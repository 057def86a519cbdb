"""What the JSON API of the log takes: queries and bodies, and how they are read.

Bytes are taken as text, or in the field of the same name with `_base64`. What a type cannot refuse is refused here, by a
problem that names the field.
"""

import binascii
from base64 import b64decode
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mainspring.core.http.operation import INT64
from mainspring.core.http.pages import CursorText, PageQuery
from mainspring.core.problems import Invalid
from mainspring.storage.log.packing import New
from mainspring.storage.log.reader import Isolation

PRODUCED_MAX = 1_000
LIMIT_MAX = 500

Index = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Where = Annotated[str, Meta(max_length=1_000, description='A condition on JSON values: `status = "paid" and n > 3`')]
SettingValue = str | int | float | bool


class TopicQuery(PageQuery, frozen=True, kw_only=True):
    """`q` stands anywhere in the name; the log's own topics are shown where `internal`."""

    q: Annotated[str, Meta(max_length=249)] = ""
    internal: bool = False


class NewTopic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`config` has Kafka's names: `{"cleanup.policy": "compact", "retention.ms": -1}`."""

    name: Annotated[str, Meta(min_length=1, max_length=1_000)]
    partitions: INT64 = 1
    config: Annotated[dict[str, SettingValue], Meta(max_length=100)] = {}


class TopicEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`partitions` can only grow; a setting that is null goes back to its default."""

    partitions: INT64 | UnsetType = UNSET
    config: Annotated[dict[str, SettingValue | None], Meta(max_length=100)] = {}


class RecordsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """From `offset` on (from the end where it is negative: -50 for the last 50), or from a `timestamp` on, in milliseconds
    or as RFC 3339. Without `partition` all of them, one after the other."""

    partition: Index | None = None
    offset: INT64 | None = None
    timestamp: Annotated[str, Meta(max_length=40)] | None = None
    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX)] = 50
    where: Where | None = None
    isolation: Isolation = "read_committed"
    cursor: CursorText | None = None


class TailQuery(msgspec.Struct, frozen=True):
    partition: Index | None = None
    where: Where | None = None
    isolation: Isolation = "read_committed"


class NewHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(max_length=1_000)]
    value: str | None = None
    value_base64: str | None = None


class NewRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of `value` (text), `value_base64` and `json` (any JSON, kept as it is written); none of them is a tombstone."""

    key: str | None = None
    key_base64: str | None = None
    value: str | None = None
    value_base64: str | None = None
    json: msgspec.Raw | UnsetType = UNSET
    headers: Annotated[tuple[NewHeader, ...], Meta(max_length=100)] = ()
    partition: Index | None = None
    timestamp_ms: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None


class NewRecords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    records: Annotated[tuple[NewRecord, ...], Meta(min_length=1, max_length=PRODUCED_MAX)]


class PartitionsQuery(msgspec.Struct, frozen=True, rename={"first": "from"}):
    """Which partitions to show: a thousand from this one on."""

    first: Index = 0


class PartitionQuery(msgspec.Struct, frozen=True):
    partition: Index = 0


class CompactionQuery(msgspec.Struct, frozen=True):
    """`active`: as if the newest segment, which compaction leaves alone, were closed."""

    partition: Index = 0
    active: bool = False


class TransactionQuery(PageQuery, frozen=True, kw_only=True):
    """`open`: only those that have neither committed nor aborted."""

    open: bool = False


def new_record(given: NewRecord, at: int) -> New:
    """Raises `Invalid` for base64 that is none, and for a value given twice."""
    where = f"/body/records/{at}"
    value = one_of(given.value, given.value_base64, where, "value")
    if given.json is not UNSET:
        if value is not None:
            raise Invalid("A record has one value", pointer=f"{where}/json")
        value = bytes(given.json)
    headers = [
        (header.name, one_of(header.value, header.value_base64, f"{where}/headers/{n}", "value"))
        for n, header in enumerate(given.headers)
    ]
    key = one_of(given.key, given.key_base64, where, "key")
    return New(value, key, headers, given.timestamp_ms, given.partition)


def one_of(text: str | None, base64: str | None, where: str, name: str) -> bytes | None:
    if base64 is None:
        return None if text is None else text.encode()
    if text is not None:
        raise Invalid(f"Give {name} or {name}_base64, not both", pointer=f"{where}/{name}_base64")
    try:
        return b64decode(base64, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid("This is not base64", pointer=f"{where}/{name}_base64") from None


def config_texts(config: dict[str, Any]) -> dict[str, Any]:
    """Values as Kafka writes them; null stays."""
    return {
        name: value if value is None else ("true" if value else "false") if isinstance(value, bool) else str(value)
        for name, value in config.items()
    }


def read_timestamp(text: str, pointer: str = "/query/timestamp") -> int:
    """Milliseconds, or an instant of RFC 3339. Raises `Invalid`."""
    try:
        if text.lstrip("-").isdigit():
            at_ms = int(text)
        else:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                raise ValueError("no time zone")
            at_ms = int(moment.timestamp() * 1000)
        if not 0 <= at_ms < 2**63:
            raise ValueError("out of range")
        return at_ms
    except (ValueError, OverflowError):
        raise Invalid("Write milliseconds since 1970, or an instant as RFC 3339 does", pointer=pointer) from None
