"""Answers written by kio's schemas: one function per structure, made once from the description of exactly that version.

A structure is a mapping. What the version lacks is left out, what is not given takes the schema's default; durations and
moments are integers under the field's name with `_ms`.
"""

import struct
from collections.abc import Callable
from dataclasses import MISSING, fields
from datetime import timedelta
from typing import Any, TypeAlias
from uuid import UUID

from kio.serial._introspect import EntityField, EntityTupleField, PrimitiveTupleField, classify_field, is_optional

from mainspring.storage.log.kafka.varints import put_varint

Write: TypeAlias = Callable[[bytearray, Any], None]
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


def entity_writer(kind: Any) -> Write:
    """What writes mappings by the schema of `kind`, a type of kio's."""
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
        return _array(entity_writer(kind.type_), flexible)
    if isinstance(kind, EntityField):
        return (
            _optional(entity_writer(kind.type_))
            if optional and "tag" not in field.metadata
            else entity_writer(kind.type_)
        )
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
