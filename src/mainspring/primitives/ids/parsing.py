"""One reader for every kind of id, and the same number in every other notation.

Kinds differ in length and letters, so one look decides:

| text | kind |
| --- | --- |
| digits | 64 bits, decimal; not 11, 13 or 14 of them, which as decimals would be ids of the first day of 2025 |
| 1 to 11 letters | 64 bits, base62 (fewer than 11: the short form) |
| 13 letters, 14 with a check letter | 64 bits, Crockford |
| `0x` and up to 16 letters | 64 bits, hex |
| 20 letters 0-9 a-v | XID |
| 21 letters, with `_` and `-` | NanoID |
| 26 letters | ULID; in lower case and with the bits of a UUIDv7, a TypeID without prefix |
| 27 letters | KSUID |
| 32 or 36 letters | UUID |
| `prefix_` and 26 letters | TypeID |
"""

from datetime import UTC, datetime, timedelta
from typing import NoReturn
from uuid import UUID

import msgspec

from . import texts
from .errors import NotAnId
from .kinds import KSUID_EPOCH_S, NANO_LETTERS, TYPEID_LETTERS, from_typeid, typeid
from .layouts import LAYOUTS, MAINSPRING, Layout
from .texts import LAST_64

TEXT_MAX = 64
TYPEID_MAX = 90

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GREGORIAN_US = 12_219_292_800_000_000  # from October 1582, where UUIDv1 begins, to 1970
_NAMES = {layout: name for name, layout in LAYOUTS.items()}


class Field(msgspec.Struct, frozen=True):
    """Some of an id's bits, counted from the high end."""

    name: str
    bits: int
    value: int


class Id(msgspec.Struct, frozen=True):
    """What an id tells. `at_us` (microseconds UTC), `worker` and `sequence` are None where the kind has none.

    `kind` is a layout's name, `uuid1` to `uuid8`, `uuid`, `ulid`, `ksuid`, `xid`, `typeid` or `nanoid`; `value` is the number
    of `bits` bits (for a NanoID its letters' bytes); `text` is the kind's own notation.
    """

    kind: str
    at_us: int | None
    worker: int | None
    sequence: int | None
    value: int
    bits: int
    text: str
    prefix: str | None = None
    fields: tuple[Field, ...] = ()

    @property
    def time(self) -> datetime | None:
        """The instant, where there is one before the year 10000."""
        return None if self.at_us is None else instant(self.at_us)


def instant(at_us: int) -> datetime | None:
    """Microseconds UTC as a datetime; None outside the years that a datetime has."""
    try:
        return _EPOCH + timedelta(microseconds=at_us)
    except OverflowError:
        return None


def microseconds(at: datetime | int) -> int:
    """Microseconds UTC of a datetime that knows its zone. Raises `ValueError` for one that does not."""
    if isinstance(at, int):
        return at
    if at.tzinfo is None:
        raise ValueError("the datetime has no time zone")
    return (at - _EPOCH) // timedelta(microseconds=1)


def parse(text: str | int, layout: Layout = MAINSPRING) -> Id:
    """Reads an id of any kind; a 64-bit number is read in `layout`. Raises `NotAnId`.

    Over 64 letters nothing is an id but a TypeID with a long prefix.
    """
    if isinstance(text, int):
        return snowflake(text, layout)
    size = len(text)
    if not 0 < size <= TYPEID_MAX or not text.isascii():
        _refuse()
    if "_" in text and size > 27:
        return _typeid(text)
    if size > TEXT_MAX:
        _refuse()
    if text.isdigit() and size <= 20 and size not in (11, 13, 14):
        return snowflake(texts.from_decimal(text), layout)
    if text.startswith("0x") and size <= 18:
        return snowflake(texts.from_hexadecimal(text), layout)
    match size:
        case 13:
            return snowflake(texts.from_crockford(text), layout)
        case 14:
            return snowflake(texts.from_crockford(texts.without_check(text)), layout)
        case 20:
            return _xid(text)
        case 21:
            return _nano(text)
        case 26:
            return _ulid(text)
        case 27:
            return _ksuid(text)
        case 32 | 36:
            return _uuid(text)
    if size > 11:
        _refuse()
    return snowflake(texts.from_base62(text), layout)


def _refuse() -> NoReturn:
    raise NotAnId("this is no id of any kind known here")


def snowflake(value: int, layout: Layout = MAINSPRING) -> Id:
    """A 64-bit number read in `layout`. Raises `NotAnId` where it has bits outside the layout."""
    if not 0 <= value <= LAST_64 or not layout.holds(value):
        raise NotAnId("the number does not fit into the layout's bits")
    tick, worker, sequence = layout.split(value)
    fields = [Field("worker", layout.worker, worker), Field("sequence", layout.sequence, sequence)]
    if layout.worker_last:
        fields.reverse()
    spare = 64 - layout.time - layout.time_shift
    return Id(
        kind=_NAMES.get(layout, "custom"),
        at_us=layout.at_ms(value) * 1000,
        worker=worker,
        sequence=sequence,
        value=value,
        bits=64,
        text=str(value),
        fields=_kept(Field("unused", spare, 0), Field("time", layout.time, tick), *fields),
    )


def _kept(*fields: Field) -> tuple[Field, ...]:
    return tuple(field for field in fields if field.bits)


def _xid(text: str) -> Id:
    if text != text.lower():
        _refuse()
    padded = texts.BASE32HEX.decode(text, 100)
    if padded & 15:
        _refuse()
    value = padded >> 4
    seconds, process, count = value >> 64, value >> 24 & (1 << 40) - 1, value & 0xFFFFFF
    fields = (Field("time", 32, seconds), Field("process", 40, process), Field("sequence", 24, count))
    return Id("xid", seconds * 1_000_000, process, count, value, 96, text, fields=fields)


def _nano(text: str) -> Id:
    if not NANO_LETTERS.issuperset(text):
        _refuse()
    value = int.from_bytes(text.encode())
    return Id("nanoid", None, None, None, value, 168, text, fields=(Field("random", 126, value),))


def _ksuid(text: str) -> Id:
    value = texts.BASE62.decode(text, 160)
    seconds, random = value >> 128, value & (1 << 128) - 1
    fields = (Field("time", 32, seconds), Field("random", 128, random))
    return Id("ksuid", (seconds + KSUID_EPOCH_S) * 1_000_000, None, None, value, 160, text, fields=fields)


def _ulid(text: str) -> Id:
    value = texts.CROCKFORD.decode(text, 128)
    if value >> 76 & 15 == 7 and value >> 62 & 3 == 2 and not text.strip(TYPEID_LETTERS):
        return _typeid(text)
    at_ms, random = value >> 80, value & (1 << 80) - 1
    fields = (Field("time", 48, at_ms), Field("random", 80, random))
    return Id("ulid", at_ms * 1000, None, None, value, 128, texts.CROCKFORD.encode(value, 26), fields=fields)


def _typeid(text: str) -> Id:
    prefix, value = from_typeid(text)
    inner = uuid(value)
    return Id("typeid", inner.at_us, inner.worker, inner.sequence, value, 128, text, prefix, inner.fields)


def _uuid(text: str) -> Id:
    if len(text) == 36 and (text[8], text[13], text[18], text[23]) != ("-",) * 4:
        _refuse()
    letters = text.replace("-", "")
    if len(letters) != 32:
        _refuse()
    return uuid(texts.HEX.decode(letters, 128))


def uuid(value: int) -> Id:
    """A UUID's 128 bits, by RFC 9562; versions without a time, and variants that are not the RFC's, tell nothing more."""
    version = value >> 76 & 15 if value >> 62 & 3 == 2 else 0
    one = UUID(int=value)
    at_us = worker = sequence = None
    marks = (Field("version", 4, version), Field("variant", 2, 2))
    fields: tuple[Field, ...] = (Field("value", 128, value),)
    match version:
        case 7:
            sequence = value >> 64 & 0xFFF
            at_us = (value >> 80) * 1000
            fields = (Field("time", 48, value >> 80), marks[0], Field("sequence", 12, sequence), marks[1])
            fields += (Field("random", 62, value & (1 << 62) - 1),)
        case 1 | 6:
            low, middle, high = value >> 96, value >> 80 & 0xFFFF, value >> 64 & 0xFFF
            ticks = high << 48 | middle << 32 | low if version == 1 else low << 28 | middle << 12 | high
            at_us, worker, sequence = ticks // 10 - _GREGORIAN_US, one.node, value >> 48 & 0x3FFF
            fields = (Field("time", 48, value >> 80), marks[0], Field("time", 12, high), marks[1])
            fields += (Field("sequence", 14, sequence), Field("node", 48, one.node))
        case 4:
            fields = (Field("random", 48, value >> 80), marks[0], Field("random", 12, value >> 64 & 0xFFF), marks[1])
            fields += (Field("random", 62, value & (1 << 62) - 1),)
    return Id(f"uuid{version or ''}", at_us, worker, sequence, value, 128, str(one), fields=fields)


def renderings(one: Id) -> dict[str, str]:
    """The same bits in every other notation: its name and text."""
    value = one.value
    if one.kind == "nanoid":
        return {"nanoid": one.text}
    if one.bits == 64:
        code = texts.crockford(value)
        return {
            "decimal": str(value),
            "hex": f"0x{texts.hexadecimal(value)}",
            "base62": texts.base62(value),
            "base62_short": texts.base62_short(value),
            "base58": texts.base58(value),
            "crockford": code,
            "crockford_checked": texts.with_check(code),
            "base32hex": texts.base32hex(value),
        }
    found = {one.kind: one.text, "decimal": str(value), "hex": f"{value:0{one.bits // 4}x}"}
    for name, alphabet in (("base62", texts.BASE62), ("base58", texts.BASE58), ("base32hex", texts.BASE32HEX)):
        found[name] = alphabet.encode(value, alphabet.width(one.bits))
    if one.bits == 128:
        found |= {"uuid": str(UUID(int=value)), "ulid": texts.CROCKFORD.encode(value, 26), "typeid": typeid("", value)}
        found[one.kind] = one.text
    return found
