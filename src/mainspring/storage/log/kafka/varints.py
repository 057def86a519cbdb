"""Unsigned varints (base 128, least significant group first), as flexible versions write lengths, counts and tags; and the
strings and tagged fields that they count."""


def put_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def get_varint(data: memoryview | bytes, at: int) -> tuple[int, int]:
    """The value, and where the next field begins. Raises `IndexError` beyond the end, `ValueError` above 32 bits."""
    byte = data[at]
    at += 1
    if byte < 0x80:
        return byte, at
    value, shift = byte & 0x7F, 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 28:
            raise ValueError("a varint of more than five bytes")
    if value > 0xFFFFFFFF:
        raise ValueError("a varint of more than 32 bits")
    return value, at


def compact_string(data: memoryview, at: int) -> tuple[str | None, int]:
    """The string at `at`, or None, and where the next field begins. Raises `IndexError` and `ValueError`."""
    size, at = get_varint(data, at)
    if not size:
        return None, at
    after = at + size - 1
    if after > len(data):
        raise ValueError("a string longer than the frame")
    return str(data[at:after], "utf-8"), after


def skip_tags(data: memoryview, at: int) -> int:
    """Where the fields that are tagged at `at` end. Raises `IndexError` and `ValueError` as `get_varint` does."""
    count, at = get_varint(data, at)
    for _ in range(count):
        _, at = get_varint(data, at)
        size, at = get_varint(data, at)
        at += size
        if at > len(data):
            raise ValueError("a tagged field longer than the frame")
    return at
