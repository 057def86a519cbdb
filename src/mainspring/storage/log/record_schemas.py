"""Kafka's own schemas of the records in `__consumer_offsets`, `__transaction_state` and `__share_group_state`.

A key is an int16 that names the kind and then its fields; a value is an int16 version and then its fields, from the flexible
version on with varint lengths and tagged fields. Written by these tables, Kafka's offset tools read our internal topics and we
read theirs. A value of a version above the one written here is read by the newest schema known: Kafka adds only tagged fields.
"""

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

ZERO_UUID = UUID(int=0)


class Malformed(ValueError):
    """Bytes that no schema here has written."""


class Field(NamedTuple):
    """`kind` is a primitive, or a tuple of fields for a struct; `array` of either. `tag`: written only where not default."""

    name: str
    kind: "str | tuple[Field, ...]"
    since: int = 0
    default: Any = None
    nullable: bool = False
    array: bool = False
    tag: int | None = None


class Schema(NamedTuple):
    """One kind of record. `version` is what is written; `flexible` the first version with varint lengths."""

    name: str
    kind: int
    key: tuple[Field, ...]
    value: tuple[Field, ...]
    version: int = 0
    flexible: int = 0


def _array(name: str, kind: "str | tuple[Field, ...]", since: int = 0, nullable: bool = False) -> Field:
    return Field(name, kind, since, (), nullable, array=True)


_GROUP = (Field("group", "string"),)
_GROUP_MEMBER = (*_GROUP, Field("member", "string"))
_TOPIC_PARTITIONS = (Field("topic_id", "uuid"), _array("partitions", "int32"))
_TARGET = (_array("topics", _TOPIC_PARTITIONS),)
_EPOCH = (Field("epoch", "int32"),)

OFFSET_COMMIT = Schema(
    "offset commit",
    1,
    (*_GROUP, Field("topic", "string"), Field("partition", "int32")),
    (
        Field("offset", "int64"),
        Field("leader_epoch", "int32", since=3, default=-1),
        Field("metadata", "string"),
        Field("commit_timestamp", "int64"),
        Field("topic_id", "uuid", since=4, default=ZERO_UUID, tag=0),
    ),
    version=4,
    flexible=4,
)
CLASSIC_GROUP = Schema(
    "classic group",
    2,
    _GROUP,
    (
        Field("protocol_type", "string"),
        Field("generation", "int32"),
        Field("protocol", "string", nullable=True),
        Field("leader", "string", nullable=True),
        Field("state_timestamp", "int64", since=2, default=-1),
        _array(
            "members",
            (
                Field("member", "string"),
                Field("instance", "string", since=3, nullable=True),
                Field("client_id", "string"),
                Field("client_host", "string"),
                Field("rebalance_timeout_ms", "int32", since=1, default=-1),
                Field("session_timeout_ms", "int32"),
                Field("subscription", "bytes"),
                Field("assignment", "bytes"),
            ),
        ),
    ),
    version=4,
    flexible=4,
)
CONSUMER_GROUP = Schema(
    "consumer group", 3, _GROUP, (*_EPOCH, Field("metadata_hash", "int64", default=0, tag=0)), flexible=0
)
CONSUMER_MEMBER = Schema(
    "consumer group member",
    5,
    _GROUP_MEMBER,
    (
        Field("instance", "string", nullable=True),
        Field("rack", "string", nullable=True),
        Field("client_id", "string"),
        Field("client_host", "string"),
        _array("topics", "string"),
        Field("regex", "string", nullable=True),
        Field("rebalance_timeout_ms", "int32", default=-1),
        Field("assignor", "string", nullable=True),
        Field(
            "classic",
            (
                Field("session_timeout_ms", "int32"),
                _array("protocols", (Field("name", "string"), Field("metadata", "bytes"))),
            ),
            nullable=True,
            tag=0,
        ),
    ),
)
CONSUMER_TARGET = Schema("consumer group target", 6, _GROUP, _EPOCH)
CONSUMER_TARGET_MEMBER = Schema("consumer group target of a member", 7, _GROUP_MEMBER, _TARGET)
_CURRENT = (
    *_EPOCH,
    Field("previous_epoch", "int32"),
    Field("state", "int8"),
    _array("assigned", _TOPIC_PARTITIONS),
)
CONSUMER_CURRENT = Schema(
    "consumer group current assignment",
    8,
    _GROUP_MEMBER,
    (*_CURRENT, _array("revoking", _TOPIC_PARTITIONS)),
)
SHARE_MEMBER = Schema(
    "share group member",
    10,
    _GROUP_MEMBER,
    (
        Field("rack", "string", nullable=True),
        Field("client_id", "string"),
        Field("client_host", "string"),
        _array("topics", "string"),
    ),
)
SHARE_GROUP = Schema("share group", 11, _GROUP, (*_EPOCH, Field("metadata_hash", "int64", default=0)))
SHARE_TARGET = Schema("share group target", 12, _GROUP, _EPOCH)
SHARE_TARGET_MEMBER = Schema("share group target of a member", 13, _GROUP_MEMBER, _TARGET)
SHARE_CURRENT = Schema("share group current assignment", 14, _GROUP_MEMBER, _CURRENT)
_NAMED_PARTITIONS = (Field("topic_id", "uuid"), Field("topic", "string"), _array("partitions", "int32"))
SHARE_PARTITIONS = Schema(
    "share group partitions",
    15,
    _GROUP,
    (
        _array("initializing", _NAMED_PARTITIONS),
        _array("initialized", _NAMED_PARTITIONS),
        _array("deleting", (Field("topic_id", "uuid"), Field("topic", "string"))),
    ),
)
CONSUMER_REGEX = Schema(
    "consumer group regular expression",
    16,
    (*_GROUP, Field("regex", "string")),
    (_array("topics", "string"), Field("version", "int64"), Field("timestamp", "int64")),
)

GROUP_RECORDS = (
    OFFSET_COMMIT,
    CLASSIC_GROUP,
    CONSUMER_GROUP,
    CONSUMER_MEMBER,
    CONSUMER_TARGET,
    CONSUMER_TARGET_MEMBER,
    CONSUMER_CURRENT,
    SHARE_MEMBER,
    SHARE_GROUP,
    SHARE_TARGET,
    SHARE_TARGET_MEMBER,
    SHARE_CURRENT,
    SHARE_PARTITIONS,
    CONSUMER_REGEX,
)

TRANSACTION = Schema(
    "transaction",
    0,
    (Field("transactional_id", "string"),),
    (
        Field("producer_id", "int64"),
        Field("previous_producer_id", "int64", since=1, default=-1, tag=0),
        Field("next_producer_id", "int64", since=1, default=-1, tag=1),
        Field("producer_epoch", "int16"),
        Field("next_producer_epoch", "int16", since=1, default=-1, tag=3),
        Field("timeout_ms", "int32"),
        Field("status", "int8"),
        _array("topics", (Field("topic", "string"), _array("partitions", "int32")), nullable=True),
        Field("last_update_ms", "int64"),
        Field("start_ms", "int64"),
        Field("client_version", "int16", since=1, default=0, tag=2),
    ),
    version=1,
    flexible=1,
)
TRANSACTION_RECORDS = (TRANSACTION,)

_SHARE_PARTITION = (Field("group", "string"), Field("topic_id", "uuid"), Field("partition", "int32"))
_STATE_BATCHES = _array(
    "batches",
    (
        Field("first_offset", "int64"),
        Field("last_offset", "int64"),
        Field("state", "int8"),
        Field("deliveries", "int16"),
    ),
)
SHARE_SNAPSHOT = Schema(
    "share partition snapshot",
    0,
    _SHARE_PARTITION,
    (
        Field("snapshot_epoch", "int32"),
        Field("state_epoch", "int32"),
        Field("leader_epoch", "int32"),
        Field("start_offset", "int64"),
        Field("completed", "int32", default=-1, tag=0),
        Field("created_ms", "int64"),
        Field("written_ms", "int64"),
        _STATE_BATCHES,
    ),
)
SHARE_UPDATE = Schema(
    "share partition update",
    1,
    _SHARE_PARTITION,
    (
        Field("snapshot_epoch", "int32"),
        Field("leader_epoch", "int32"),
        Field("start_offset", "int64"),
        Field("completed", "int32", default=-1, tag=0),
        _STATE_BATCHES,
    ),
)
SHARE_RECORDS = (SHARE_SNAPSHOT, SHARE_UPDATE)

_NUMBERS = {"int8": struct.Struct(">b"), "int16": struct.Struct(">h"), "int32": struct.Struct(">i")}
_NUMBERS["int64"] = struct.Struct(">q")
_INT16 = _NUMBERS["int16"]
_LENGTHS = {"string": _INT16, "bytes": _NUMBERS["int32"], "array": _NUMBERS["int32"]}


class Record(NamedTuple):
    """What a coordinator writes and reads: `value` None is a tombstone."""

    schema: Schema
    key: tuple[Any, ...]
    value: Mapping[str, Any] | None


def encode_key(schema: Schema, key: tuple[Any, ...]) -> bytes:
    out = bytearray(_INT16.pack(schema.kind))
    for field, value in zip(schema.key, key, strict=True):
        _write(out, field.kind, value, False, 0)
    return bytes(out)


def encode_value(schema: Schema, value: Mapping[str, Any]) -> bytes:
    out = bytearray(_INT16.pack(schema.version))
    _write_fields(out, schema.value, value, schema.version >= schema.flexible, schema.version)
    return bytes(out)


def decode(schemas: tuple[Schema, ...], key: bytes, value: bytes | None) -> Record | None:
    """None for a kind that is not among `schemas`. Raises `Malformed`."""
    try:
        kind = _INT16.unpack_from(key)[0]
        schema = next((one for one in schemas if one.kind == kind), None)
        if schema is None:
            return None
        reader = _Reader(key, 2)
        names = tuple(reader.read(field.kind, False, 0, False) for field in schema.key)
        if value is None:
            return Record(schema, names, None)
        version = _INT16.unpack_from(value)[0]
        fields = _Reader(value, 2).fields(schema.value, version >= schema.flexible, version)
        return Record(schema, names, fields)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise Malformed(f"an internal record cannot be read: {error}") from None


def _varint(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _length(out: bytearray, kind: str, count: int, flexible: bool) -> None:
    if flexible:
        _varint(out, count + 1)
    else:
        out += _LENGTHS[kind].pack(count)


def _write_fields(
    out: bytearray, fields: tuple[Field, ...], values: Mapping[str, Any], flexible: bool, version: int
) -> None:
    tagged = []
    for field in fields:
        if field.since > version:
            continue
        value = values.get(field.name, field.default)
        if field.tag is not None:
            if value != field.default:
                tagged.append((field, value))
        elif field.array and value is not None:
            _length(out, "array", len(value), flexible)
            for one in value:
                _write(out, field.kind, one, flexible, version)
        elif field.array:
            _length(out, "array", -1, flexible)
        else:
            _write(out, field.kind, value, flexible, version)
    if not flexible:
        return
    tagged.sort(key=lambda one: one[0].tag or 0)
    _varint(out, len(tagged))
    for field, value in tagged:
        body = bytearray()
        if not isinstance(field.kind, str):
            body.append(1)  # a nullable struct opens with whether it is there
        _write(body, field.kind, value, True, version)
        _varint(out, field.tag or 0)
        _varint(out, len(body))
        out += body


def _write(out: bytearray, kind: "str | tuple[Field, ...]", value: Any, flexible: bool, version: int) -> None:
    if not isinstance(kind, str):
        _write_fields(out, kind, value, flexible, version)
    elif kind == "uuid":
        out += value.bytes
    elif kind in _NUMBERS:
        out += _NUMBERS[kind].pack(value)
    elif value is None:
        _length(out, kind, -1, flexible)
    else:
        data = value.encode() if kind == "string" else value
        _length(out, kind, len(data), flexible)
        out += data


class _Reader:
    """Walks over one key or value; what is too short raises `struct.error` or `IndexError`."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def fields(self, fields: tuple[Field, ...], flexible: bool, version: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for field in fields:
            if field.tag is not None or field.since > version:
                values[field.name] = field.default
            elif field.array:
                count = self._count("array", flexible)
                values[field.name] = (
                    None if count < 0 else [self.read(field.kind, flexible, version, False) for _ in range(count)]
                )
            else:
                values[field.name] = self.read(field.kind, flexible, version, False)
        if flexible:
            self._tagged({field.tag: field for field in fields if field.tag is not None}, values, version)
        return values

    def _tagged(self, known: dict[int | None, Field], values: dict[str, Any], version: int) -> None:
        for _ in range(self._varint()):
            tag, size = self._varint(), self._varint()
            end = self._at + size
            if (field := known.get(tag)) is not None:
                values[field.name] = self.read(field.kind, True, version, True)
            self._at = end

    def read(self, kind: "str | tuple[Field, ...]", flexible: bool, version: int, tagged: bool) -> Any:
        if not isinstance(kind, str):
            if tagged:
                self._take(1)
            return self.fields(kind, flexible, version)
        if kind == "uuid":
            return UUID(bytes=self._take(16))
        if kind in _NUMBERS:
            return _NUMBERS[kind].unpack(self._take(_NUMBERS[kind].size))[0]
        count = self._count(kind, flexible)
        if count < 0:
            return None
        data = self._take(count)
        return data.decode() if kind == "string" else data

    def _take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise IndexError("it ends early")
        self._at += count
        return bytes(taken)

    def _count(self, kind: str, flexible: bool) -> int:
        if flexible:
            count = self._varint() - 1
        else:
            size = _LENGTHS[kind]
            count = size.unpack(self._take(size.size))[0]
        if count > len(self._data):
            raise IndexError("a length points past the end")
        return count

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7
            if shift > 28:
                raise IndexError("a varint is too long")
