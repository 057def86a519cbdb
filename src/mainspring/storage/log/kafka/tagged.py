"""Tagged fields: passing over those of a header, and leaving out of a body those that this version does not know.

A newer client may tag what an older server has never heard of; the protocol (KIP-482) says to pass over it.
"""

from dataclasses import fields
from typing import Any

from kio.serial._introspect import EntityField, EntityTupleField, PrimitiveTupleField, classify_field, is_optional

from mainspring.storage.log.kafka.varints import get_varint, put_varint

_SIZES = {"8": 1, "16": 2, "32": 4, "64": 8}


def skip(data: memoryview, at: int) -> int:
    """Where the fields that are tagged at `at` end. Raises `IndexError` and `ValueError` as `get_varint` does."""
    count, at = get_varint(data, at)
    for _ in range(count):
        _, at = get_varint(data, at)
        size, at = get_varint(data, at)
        at += size
        if at > len(data):
            raise ValueError("a tagged field longer than the frame")
    return at


def strip(kind: Any, data: memoryview, at: int) -> bytes:
    """A copy of the body of type `kind` without the tags that it does not know. Raises as `skip` does."""
    out = bytearray()
    _entity(kind, data, at, out)
    return bytes(out)


def _entity(kind: Any, data: memoryview, at: int, out: bytearray) -> int:
    known = set()
    for field in fields(kind):
        if "tag" in field.metadata:
            known.add(field.metadata["tag"])
        else:
            at = _field(field, data, at, out)
    count, at = get_varint(data, at)
    kept, kept_count = bytearray(), 0
    for _ in range(count):
        tag, at = get_varint(data, at)
        size, at = get_varint(data, at)
        if at + size > len(data):
            raise ValueError("a tagged field longer than the frame")
        if tag in known:
            kept_count += 1
            put_varint(kept, tag)
            put_varint(kept, size)
            kept += data[at : at + size]
        at += size
    put_varint(out, kept_count)
    out += kept
    return at


def _field(field: Any, data: memoryview, at: int, out: bytearray) -> int:
    kind = classify_field(field)
    if isinstance(kind, EntityTupleField | PrimitiveTupleField):
        start = at
        length, at = get_varint(data, at)
        out += data[start:at]
        for _ in range(length - 1):
            if isinstance(kind, EntityTupleField):
                at = _entity(kind.type_, data, at, out)
            else:
                at = _primitive(field.metadata["kafka_type"], data, at, out)
        return at
    if isinstance(kind, EntityField):
        if is_optional(field):
            there = data[at]
            out.append(there)
            at += 1
            if there >= 0x80:
                return at
        return _entity(kind.type_, data, at, out)
    return _primitive(field.metadata["kafka_type"], data, at, out)


def _primitive(kafka_type: str, data: memoryview, at: int, out: bytearray) -> int:
    start = at
    if kafka_type in ("string", "bytes", "records"):
        length, at = get_varint(data, at)
        at += max(length - 1, 0)
    elif kafka_type == "bool":
        at += 1
    elif kafka_type == "uuid":
        at += 16
    elif kafka_type == "error_code":
        at += 2
    else:
        at += next(size for bits, size in _SIZES.items() if kafka_type.endswith(bits))
    if at > len(data):
        raise ValueError("a field longer than the frame")
    out += data[start:at]
    return at
