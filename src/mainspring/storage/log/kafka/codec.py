"""From bytes to requests, and from answers to bytes.

Requests are read by kio's native reader of exactly the version that came. Answers are mappings, written by functions made once
per version from kio's schema of it, so that a handler says the same for every version: a field that the version lacks is left
out, one that is not given takes the schema's default. The answers that are sent most (Produce, Fetch, Heartbeat, OffsetCommit)
are packed by their handlers.

kio refuses a tagged field that it does not know, where the protocol says to pass over it: such a request is read by
`tagged.strip`, which leaves the unknown tags out, and then again.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from datetime import timedelta
from functools import cache
from typing import Any, TypeAlias
from uuid import UUID

from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader
from kio.serial._introspect import EntityField, EntityTupleField, PrimitiveTupleField, classify_field, is_optional
from kio.serial.errors import SerialError

from mainspring.storage.log.kafka import tagged
from mainspring.storage.log.kafka.varints import put_varint

Write: TypeAlias = Callable[[bytearray, Any], None]
_HEADER = struct.Struct(">hhi")
_SHORT = struct.Struct(">h")
_LONG = struct.Struct(">i")
_MILLISECOND = timedelta(milliseconds=1)
_NO_UUID = bytes(16)
_NUMBERS = {
    "int8": "b",
    "int16": "h",
    "int32": "i",
    "int64": "q",
    "uint8": "B",
    "uint16": "H",
    "uint32": "I",
    "uint64": "Q",
    "float64": "d",
    "bool": "?",
    "error_code": "h",
    "timedelta_i32": "i",
    "timedelta_i64": "q",
    "datetime_i64": "q",
}
_IN_MS = frozenset({"timedelta_i32", "timedelta_i64", "datetime_i64"})


class Malformed(Exception):
    """The bytes are not a request of the version that they say they are."""


def ms(duration: timedelta) -> int:
    """A duration of a request in milliseconds."""
    return duration // _MILLISECOND


def header(frame: memoryview) -> tuple[int, int, int]:
    """Key, version and correlation id, which every request begins with. Raises `Malformed`."""
    if len(frame) < 8:
        raise Malformed("shorter than a header")
    key, version, correlation_id = _HEADER.unpack_from(frame)
    return key, version, correlation_id


def client(frame: memoryview, *, flexible: bool) -> tuple[str | None, int]:
    """The client's id, and where the request's body begins. Raises `Malformed`."""
    try:
        (size,) = _SHORT.unpack_from(frame, 8)
        at = 10
        client_id = None
        if size >= 0:
            at += size
            if at > len(frame):
                raise Malformed("a client id longer than the frame")
            client_id = str(frame[10:at], "utf-8")
        if flexible:
            at = tagged.skip(frame, at)
    except (struct.error, UnicodeDecodeError, IndexError, ValueError) as error:
        raise Malformed(str(error)) from None
    return client_id, at


@cache
def request_type(key: int, version: int) -> Any:
    return load_request_schema(key, version)


@cache
def is_flexible(key: int, version: int) -> bool:
    """Whether this version has tagged fields, and therefore the newer headers."""
    return bool(request_type(key, version).__flexible__)


@cache
def _reader(key: int, version: int) -> Any:
    return entity_reader(request_type(key, version))


def read(key: int, version: int, frame: memoryview, at: int) -> Any:
    """The request whose body begins at `at`. Raises `Malformed`."""
    reader = _reader(key, version)
    try:
        try:
            return reader(frame, at)[0]
        except KeyError:
            return reader(tagged.strip(request_type(key, version), frame, at), 0)[0]
    except (SerialError, ValueError, KeyError, OverflowError, IndexError, struct.error) as error:
        raise Malformed(f"{type(error).__name__}: {error}") from None


def answer(key: int, version: int, correlation_id: int, values: Mapping[str, Any]) -> bytearray:
    """A whole frame, its length first."""
    out = answer_head(key, version, correlation_id)
    _answer_writer(key, version)(out, values)
    _LONG.pack_into(out, 0, len(out) - 4)
    return out


def answer_head(key: int, version: int, correlation_id: int) -> bytearray:
    """The beginning of a frame: room for the length, and the header. That of ApiVersions never has tags, for a client
    that does not know the version must be able to read the answer."""
    out = bytearray(4)
    out += _LONG.pack(correlation_id)
    if key != 18 and is_flexible(key, version):
        out.append(0)
    return out


@cache
def _answer_writer(key: int, version: int) -> Write:
    return _entity(load_response_schema(key, version))


@cache
def answer_names(key: int, version: int) -> frozenset[str]:
    """The fields at the top of an answer."""
    return frozenset(field.name for field in fields(load_response_schema(key, version)))


def _entity(kind: Any) -> Write:
    flexible = bool(kind.__flexible__)
    plain: list[tuple[str, Write, Any]] = []
    tags: list[tuple[int, str, Write, Any]] = []
    for field in fields(kind):
        write, name = _field(field, flexible), field.name
        if field.metadata.get("kafka_type") in _IN_MS:
            name += "_ms"
        if "tag" in field.metadata:
            tags.append((field.metadata["tag"], name, write, _default(field)))
        else:
            plain.append((name, write, _default(field)))
    tags.sort(key=lambda tag: tag[0])

    def entity(out: bytearray, values: Any) -> None:
        get = values.get
        for name, write, default in plain:
            write(out, get(name, default))
        if flexible:
            given = [tag for tag in tags if tag[1] in values]
            put_varint(out, len(given))
            for tag, name, write, _ in given:
                inner = bytearray()
                write(inner, values[name])
                put_varint(out, tag)
                put_varint(out, len(inner))
                out += inner

    return entity


def _default(field: Any) -> Any:
    if field.default is not MISSING:
        default = field.default
        return default // _MILLISECOND if isinstance(default, timedelta) else default
    kind = classify_field(field)
    if is_optional(field):
        return None
    if isinstance(kind, EntityTupleField | PrimitiveTupleField):
        return ()
    if isinstance(kind, EntityField):
        return {}
    return {"string": "", "bytes": b"", "records": None, "uuid": None}.get(field.metadata["kafka_type"], 0)


def _field(field: Any, flexible: bool) -> Write:
    kind = classify_field(field)
    optional = is_optional(field)
    if isinstance(kind, EntityTupleField):
        return _array(_entity(kind.type_), flexible)
    if isinstance(kind, EntityField):
        return _optional(_entity(kind.type_)) if optional and "tag" not in field.metadata else _entity(kind.type_)
    one = _primitive(field.metadata["kafka_type"], flexible)
    return _array(one, flexible) if isinstance(kind, PrimitiveTupleField) else one


def _primitive(kafka_type: str, flexible: bool) -> Write:
    if kafka_type in _NUMBERS:
        pack = struct.Struct(">" + _NUMBERS[kafka_type]).pack

        def number(out: bytearray, value: Any) -> None:
            out += pack(value)

        return number
    if kafka_type == "uuid":
        return _uuid
    if flexible:
        return _compact
    return _short_string if kafka_type == "string" else _long_bytes


def _uuid(out: bytearray, value: UUID | None) -> None:
    out += _NO_UUID if value is None else value.bytes


def _compact(out: bytearray, value: Any) -> None:
    if value is None:
        out.append(0)
        return
    data = value.encode() if isinstance(value, str) else value
    put_varint(out, len(data) + 1)
    out += data


def _short_string(out: bytearray, value: str | None) -> None:
    if value is None:
        out += b"\xff\xff"
        return
    data = value.encode()
    out += _SHORT.pack(len(data))
    out += data


def _long_bytes(out: bytearray, value: Any) -> None:
    if value is None:
        out += b"\xff\xff\xff\xff"
        return
    out += _LONG.pack(len(value))
    out += value


def _array(one: Write, flexible: bool) -> Write:
    def array(out: bytearray, values: Any) -> None:
        if values is None:
            out += b"\0" if flexible else b"\xff\xff\xff\xff"
            return
        if flexible:
            put_varint(out, len(values) + 1)
        else:
            out += _LONG.pack(len(values))
        for value in values:
            one(out, value)

    return array


def _optional(entity: Write) -> Write:
    """Kafka's nullable structures (KIP-893): a byte says whether there is one."""

    def optional(out: bytearray, value: Any) -> None:
        if value is None:
            out += b"\xff"
            return
        out += b"\x01"
        entity(out, value)

    return optional
