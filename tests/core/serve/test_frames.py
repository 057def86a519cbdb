"""Whatever a client sends and however it is cut, the same messages come out, or the violation that the standard names."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode

from mainspring.core.serve.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Reader,
    Received,
    Violation,
    closing,
    frame,
    message,
    unmask,
)
from tests.wire.client_frames import KEY, client_close, client_frame

MESSAGE_BYTES_MAX = 1 << 20

messages = st.one_of(
    st.tuples(st.just(TEXT), st.text(max_size=300)),
    st.tuples(st.just(BINARY), st.binary(max_size=300)),
)
controls = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, list[Received]]:
    """Bytes of a client, and what they mean: messages in any number of fragments with control frames between these."""
    sent, meant = b"", []
    for opcode, data in draw(st.lists(messages, max_size=5)):
        payload = data.encode() if isinstance(data, str) else data
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
        pieces = [payload[start:end] for start, end in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        for index, piece in enumerate(pieces):
            if index:
                for control, body in draw(st.lists(controls, max_size=2)):
                    sent += client_frame(control, body, key=draw(st.binary(min_size=4, max_size=4)))
                    meant.append(Received(control, body))
            last = index == len(pieces) - 1
            sent += client_frame(
                opcode if index == 0 else CONTINUATION, piece, last, draw(st.binary(min_size=4, max_size=4))
            )
        meant.append(Received(opcode, data))
    return sent, meant


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(at)]


@given(conversations(), st.lists(st.integers(0, 10_000), max_size=20))
def test_any_fragmentation_and_any_cutting_of_the_bytes_parses_alike(
    conversation: tuple[bytes, list[Received]], places: list[int]
) -> None:
    sent, meant = conversation
    reader = Reader(MESSAGE_BYTES_MAX)
    assert [event for piece in cut(sent, places) for event in reader.feed(piece)] == meant
    byte_by_byte = Reader(MESSAGE_BYTES_MAX)
    assert [event for at in range(len(sent)) for event in byte_by_byte.feed(sent[at : at + 1])] == meant


@given(conversations(), st.lists(st.integers(0, 10_000), max_size=8), st.integers(0, 10_000), st.integers(0, 255))
def test_a_damaged_byte_gives_at_most_one_violation_and_then_silence(
    conversation: tuple[bytes, list[Received]], places: list[int], where: int, value: int
) -> None:
    damaged = bytearray(conversation[0] or b"\0")
    damaged[where % len(damaged)] = value
    whole = Reader(MESSAGE_BYTES_MAX).feed(bytes(damaged))
    pieces = Reader(MESSAGE_BYTES_MAX)
    assert [event for piece in cut(bytes(damaged), places) for event in pieces.feed(piece)] == whole
    assert not any(isinstance(event, Violation) for event in whole[:-1])


@given(st.binary(max_size=200))
def test_no_bytes_at_all_break_a_reader(data: bytes) -> None:
    Reader(1000).feed(data)


@given(st.binary(max_size=70_000), st.binary(min_size=4, max_size=4))
def test_unmasking_is_the_xor_of_the_standard_and_its_own_inverse(payload: bytes, key: bytes) -> None:
    masked = unmask(payload, key)
    assert unmask(masked, key) == payload
    assert masked[:500] == bytes(byte ^ key[index % 4] for index, byte in enumerate(payload[:500]))
    assert masked[-3:] == bytes(payload[i] ^ key[i % 4] for i in range(max(0, len(payload) - 3), len(payload)))


E_ACUTE, EURO = "é".encode(), "€".encode()
VIOLATIONS = {
    "unmasked": (b"\x81\x02hi", 1002),
    "reserved bit 1": (client_frame(TEXT, b"", first_bits=0x40), 1002),
    "reserved bit 3": (client_frame(PING, b"", first_bits=0x10), 1002),
    "reserved opcode 3": (client_frame(3, b""), 1002),
    "reserved opcode 11": (client_frame(11, b""), 1002),
    "long ping": (client_frame(PING, b"x" * 126), 1002),
    "fragmented ping": (client_frame(PING, b"", fin=False), 1002),
    "fragmented close": (client_frame(CLOSE, b"", fin=False), 1002),
    "continuation of nothing": (client_frame(CONTINUATION, b"x"), 1002),
    "message in a message": (client_frame(TEXT, b"a", fin=False) + client_frame(TEXT, b"b"), 1002),
    "length 5 in 16 bits": (b"\x82\xfe\x00\x05" + KEY + b"12345", 1002),
    "length 5 in 64 bits": (b"\x82\xff" + bytes(7) + b"\x05" + KEY + b"12345", 1002),
    "text not UTF-8": (client_frame(TEXT, b"\xff"), 1007),
    "text ends within a character": (client_frame(TEXT, EURO[:2]), 1007),
    "overlong UTF-8": (client_frame(TEXT, b"\xc0\x80"), 1007),
    "a surrogate": (client_frame(TEXT, b"\xed\xa0\x80"), 1007),
    "fragment not UTF-8, told at once": (client_frame(TEXT, b"\xf4\x90", fin=False), 1007),
    "fragments end within a character": (
        client_frame(TEXT, E_ACUTE[:1], fin=False) + client_frame(CONTINUATION, b""),
        1007,
    ),
    "too large": (client_frame(BINARY, b"x" * 1001), 1009),
    "too large, told by the head alone": (b"\x82\xff" + (1 << 62).to_bytes(8, "big"), 1009),
    "fragments too large": (
        client_frame(BINARY, b"x" * 600, fin=False) + client_frame(CONTINUATION, b"x" * 401, fin=False),
        1009,
    ),
    "close of one byte": (client_frame(CLOSE, b"\x03"), 1002),
    "close 1005": (client_close(1005), 1002),
    "close 1006": (client_close(1006), 1002),
    "close 1004": (client_close(1004), 1002),
    "close 999": (client_close(999), 1002),
    "close 1015": (client_close(1015), 1002),
    "close 2000": (client_close(2000), 1002),
    "close 5000": (client_close(5000), 1002),
    "close reason not UTF-8": (client_frame(CLOSE, b"\x03\xe8\xff"), 1007),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_has_the_code_of_the_standard_and_ends_the_reading(name: str) -> None:
    data, code = VIOLATIONS[name]
    for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
        reader = Reader(1000)
        events = [event for piece in pieces for event in reader.feed(piece)]
        assert [type(event) for event in events] == [Violation] and events[0].code == code  # type: ignore[union-attr]
        assert reader.feed(client_frame(TEXT, b"more")) == []


def test_a_character_cut_by_fragments_is_whole_again() -> None:
    frames = [client_frame(TEXT, EURO[:1], fin=False), client_frame(CONTINUATION, EURO[1:])]
    assert Reader(100).feed(b"".join(frames)) == [Received(TEXT, "€")]


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999])
def test_a_close_is_read_with_code_and_reason_and_nothing_after_it(code: int) -> None:
    reader = Reader(100)
    assert reader.feed(client_close(code, "bye") + client_frame(TEXT, b"late")) == [Received(CLOSE, (code, "bye"))]
    assert Reader(100).feed(client_frame(CLOSE, b"")) == [Received(CLOSE, (1005, ""))]


@given(messages)
def test_a_message_is_the_frame_that_the_websockets_library_writes(sent: tuple[int, str | bytes]) -> None:
    opcode, data = sent
    payload = data.encode() if isinstance(data, str) else data
    assert message(data) == frame(opcode, payload) == Frame(Opcode(opcode), payload).serialize(mask=False)


@pytest.mark.parametrize("size", [0, 125, 126, 127, 65535, 65536, 70_000])
def test_every_width_of_length_is_written_and_read(size: int) -> None:
    payload = b"x" * size
    assert frame(BINARY, payload) == Frame(Opcode.BINARY, payload).serialize(mask=False)
    assert Reader(MESSAGE_BYTES_MAX).feed(client_frame(BINARY, payload)) == [Received(BINARY, payload)]


@given(st.sampled_from([1000, 1001, 1008, 4000]), st.text(max_size=200))
def test_a_closing_frame_always_fits(code: int, reason: str) -> None:
    data = closing(code, reason)
    assert len(data) <= 127 and data[2:4] == code.to_bytes(2, "big")
    parsed = Close.parse(data[2:])
    assert reason.startswith(parsed.reason)


def test_nothing_is_held_between_messages() -> None:
    reader = Reader(1000)
    reader.feed(client_frame(TEXT, b"hello")[:4])
    reader.feed(client_frame(TEXT, b"hello")[4:])
    assert reader._pending is None
