"""Requests read by kio's schemas: one function per structure, made once from the description of exactly that version.

kio has a native reader of its own, which is faster. It reserves memory for as many items as an array says that it has, before
it looks whether they are there, and the process ends where that much cannot be had: five bytes from a stranger. Here a count
is held against what is left of the frame first. Neighbouring fields of fixed size are read together.
"""

import struct
from collections.abc import Callable
from dataclasses import MISSING, fields
from datetime import timedelta
from functools import cache
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
from kio.serial._introspect import EntityField, EntityTupleField, PrimitiveTupleField, classify_field, is_optional

from mainspring.storage.log.kafka.varints import get_varint, skip_tags

Read: TypeAlias = Callable[[memoryview, int], tuple[Any, int]]
Convert: TypeAlias = Callable[[Any], Any]

_SHORT = struct.Struct(">h")
_LONG = struct.Struct(">i")
_NO_UUID = bytes(16)
_MS_MAX = timedelta.max // timedelta(milliseconds=1) - 1
"""An int64 of milliseconds holds more than a `timedelta`: a client's "for ever" is cut to ours."""
_STRINGS = frozenset({"string", "bytes", "records"})


def _duration(milliseconds: int) -> timedelta:
    return timedelta(milliseconds=max(-_MS_MAX, min(_MS_MAX, milliseconds)))


def _identity(data: bytes) -> UUID | None:
    return None if data == _NO_UUID else UUID(bytes=data)


_FIXED: dict[str, tuple[str, Convert | None]] = {
    "int8": ("b", None),
    "int16": ("h", None),
    "int32": ("i", None),
    "int64": ("q", None),
    "uint8": ("B", None),
    "uint16": ("H", None),
    "uint32": ("I", None),
    "uint64": ("Q", None),
    "float64": ("d", None),
    "bool": ("?", None),
    "error_code": ("h", None),
    "timedelta_i32": ("i", _duration),
    "timedelta_i64": ("q", _duration),
    "datetime_i64": ("q", None),
    "uuid": ("16s", _identity),
}
"""How a type of fixed size is unpacked, and what is made of it."""


class _Part:
    """One step of reading a structure: it adds the values of some fields to a list."""

    __slots__ = ("bytes_min", "read")

    def __init__(self, read: Callable[[memoryview, int, list[Any]], int], bytes_min: int) -> None:
        self.read = read
        self.bytes_min = bytes_min


@cache
def entity_reader(kind: Any) -> tuple[Read, int]:
    """What reads a structure of kio's type `kind` from (data, at), giving it and where it ends; and its least size.

    It raises `ValueError`, `IndexError` or `struct.error` for bytes that are none. What it gives has the fields of `kind` as
    attributes: numbers, `str`, `bytes`, `UUID` or None, `timedelta`, tuples.
    """
    flexible = bool(kind.__flexible__)
    plain = [field for field in fields(kind) if "tag" not in field.metadata]
    tags = {field.metadata["tag"]: field for field in fields(kind) if "tag" in field.metadata}
    parts = _parts(plain, flexible)
    make: Any = msgspec.defstruct(
        kind.__name__, [(field.name, Any) for field in (*plain, *tags.values())], frozen=True, gc=False
    )
    steps = [part.read for part in parts]
    bytes_min = sum(part.bytes_min for part in parts) + flexible
    if not flexible:

        def read(data: memoryview, at: int) -> tuple[Any, int]:
            values: list[Any] = []
            for step in steps:
                at = step(data, at, values)
            return make(*values), at

        return read, max(bytes_min, 1)
    defaults = [field.default if field.default is not MISSING else None for field in tags.values()]
    readers = {tag: (place, _one(field, flexible, is_tag=True)) for place, (tag, field) in enumerate(tags.items())}

    def read_flexible(data: memoryview, at: int) -> tuple[Any, int]:
        values: list[Any] = []
        for step in steps:
            at = step(data, at, values)
        if not data[at]:
            return make(*values, *defaults), at + 1
        if not readers:
            return make(*values), skip_tags(data, at)
        tagged, at = _tagged(data, at, readers, defaults)
        return make(*values, *tagged), at

    return read_flexible, bytes_min


def _tagged(
    data: memoryview, at: int, readers: dict[int, tuple[int, Read]], defaults: list[Any]
) -> tuple[list[Any], int]:
    """The tagged fields that this version knows; newer ones are passed over (KIP-482)."""
    values = list(defaults)
    count, at = get_varint(data, at)
    for _ in range(count):
        tag, at = get_varint(data, at)
        size, at = get_varint(data, at)
        if at + size > len(data):
            raise ValueError("a tagged field longer than the frame")
        known = readers.get(tag)
        if known is not None:
            place, one = known
            values[place], end = one(data[: at + size], at)
            if end != at + size:
                raise ValueError("a tagged field of another size than it says")
        at += size
    return values, at


def _parts(plain: list[Any], flexible: bool) -> list[_Part]:
    """Steps for fields in order, runs of fixed size as one."""
    parts: list[_Part] = []
    run: list[str] = []
    for field in (*plain, None):
        kafka_type = field.metadata.get("kafka_type") if field is not None and _is_plain(field) else None
        if kafka_type in _FIXED:
            run.append(kafka_type)
            continue
        if run:
            parts.append(_run(run))
            run = []
        if field is not None:
            parts.append(_Part(*_appending(field, flexible)))
    return parts


def _is_plain(field: Any) -> bool:
    return not isinstance(classify_field(field), EntityField | EntityTupleField | PrimitiveTupleField)


def _run(kafka_types: list[str]) -> _Part:
    layout = struct.Struct(">" + "".join(_FIXED[one][0] for one in kafka_types))
    unpack, size = layout.unpack_from, layout.size
    converts = [(place, convert) for place, one in enumerate(kafka_types) if (convert := _FIXED[one][1]) is not None]
    if not converts:

        def read(data: memoryview, at: int, values: list[Any]) -> int:
            values.extend(unpack(data, at))
            return at + size

        return _Part(read, size)

    def read_converting(data: memoryview, at: int, values: list[Any]) -> int:
        found = list(unpack(data, at))
        for place, convert in converts:
            found[place] = convert(found[place])
        values.extend(found)
        return at + size

    return _Part(read_converting, size)


def _appending(field: Any, flexible: bool) -> tuple[Callable[[memoryview, int, list[Any]], int], int]:
    one = _one(field, flexible)

    def read(data: memoryview, at: int, values: list[Any]) -> int:
        value, at = one(data, at)
        values.append(value)
        return at

    return read, 1


def _one(field: Any, flexible: bool, *, is_tag: bool = False) -> Read:
    """What reads a single field."""
    kind = classify_field(field)
    optional = is_optional(field)
    if isinstance(kind, EntityTupleField):
        reader, bytes_min = entity_reader(kind.type_)
        return _array(reader, bytes_min, flexible, optional)
    if isinstance(kind, EntityField):
        reader, _ = entity_reader(kind.type_)
        return _nullable(reader) if optional and not is_tag else reader
    one, bytes_min = _primitive(
        field.metadata["kafka_type"], flexible, optional and not isinstance(kind, PrimitiveTupleField)
    )
    return _array(one, bytes_min, flexible, optional) if isinstance(kind, PrimitiveTupleField) else one


def _primitive(kafka_type: str, flexible: bool, optional: bool) -> tuple[Read, int]:
    if kafka_type in _STRINGS:
        is_text = kafka_type == "string"
        if flexible:
            return _compact(optional, is_text), 1
        return _prefixed(_SHORT if is_text else _LONG, optional, is_text), 2
    code, convert = _FIXED[kafka_type]
    layout = struct.Struct(">" + code)

    def fixed(data: memoryview, at: int) -> tuple[Any, int]:
        (value,) = layout.unpack_from(data, at)
        return (value if convert is None else convert(value)), at + layout.size

    return fixed, layout.size


def _compact(optional: bool, is_text: bool) -> Read:
    def read(data: memoryview, at: int) -> tuple[Any, int]:
        size, at = get_varint(data, at)
        if not size:
            if not optional:
                raise ValueError("null where there must be a value")
            return None, at
        end = at + size - 1
        if end > len(data):
            raise ValueError("a value longer than the frame")
        return (str(data[at:end], "utf-8") if is_text else bytes(data[at:end])), end

    return read


def _prefixed(layout: struct.Struct, optional: bool, is_text: bool) -> Read:
    def read(data: memoryview, at: int) -> tuple[Any, int]:
        (size,) = layout.unpack_from(data, at)
        at += layout.size
        if size < 0:
            if size != -1 or not optional:
                raise ValueError("null where there must be a value")
            return None, at
        end = at + size
        if end > len(data):
            raise ValueError("a value longer than the frame")
        return (str(data[at:end], "utf-8") if is_text else bytes(data[at:end])), end

    return read


def _array(one: Read, bytes_min: int, flexible: bool, optional: bool) -> Read:
    def read(data: memoryview, at: int) -> tuple[Any, int]:
        if flexible:
            count, at = get_varint(data, at)
            count -= 1
        else:
            (count,) = _LONG.unpack_from(data, at)
            at += 4
        if count < 0:
            if count != -1 or not optional:
                raise ValueError("null where there must be a list")
            return None, at
        if count * bytes_min > len(data) - at:
            raise ValueError(f"a list of {count} in {len(data) - at} bytes")
        items = []
        for _ in range(count):
            item, at = one(data, at)
            items.append(item)
        return tuple(items), at

    return read


def _nullable(entity: Read) -> Read:
    """Kafka's nullable structures (KIP-893): a byte says whether there is one."""

    def read(data: memoryview, at: int) -> tuple[Any, int]:
        return (None, at + 1) if data[at] >= 0x80 else entity(data, at + 1)

    return read
