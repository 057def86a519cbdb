"""Cutting bytes into frames, however they arrive."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.storage.log.kafka.frames import Frames

SHARED = 64


def feed(frames: Frames, data: bytes, cuts: list[int]) -> list[bytes]:
    """What arrives when a socket gives these many bytes at a time, and the shared memory is used by others in between."""
    found: list[bytes] = []
    shared = frames._shared
    while data:
        room = frames.room()
        count = min(len(room), cuts.pop(0) if cuts else len(room), len(data))
        room[:count] = data[:count]
        found += [bytes(frame) for frame in frames.received(count)]
        shared[:] = b"\xee" * len(shared)
        data = data[count:]
    return found


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=200), max_size=8), st.lists(st.integers(1, 90), max_size=60))
def test_frames_come_out_whole_and_in_order_however_they_are_cut(payloads: list[bytes], cuts: list[int]) -> None:
    data = b"".join(struct.pack(">i", len(payload)) + payload for payload in payloads)
    frames = Frames(memoryview(bytearray(SHARED)), 1000)
    assert feed(frames, data, cuts) == payloads


def test_a_frame_that_came_is_not_changed_by_what_is_received_next() -> None:
    frames = Frames(memoryview(bytearray(SHARED)), 1000)
    room = frames.room()
    room[:9] = b"\0\0\0\x05hello"
    (first,) = frames.received(9)
    frames.room()[:9] = b"\0\0\0\x05world"
    (second,) = frames.received(9)
    assert (bytes(first), bytes(second)) == (b"hello", b"world")


@pytest.mark.parametrize("length", [-1, -(2**31), 1001, 2**31 - 1])
def test_a_length_below_zero_or_above_the_limit_is_refused(length: int) -> None:
    frames = Frames(memoryview(bytearray(SHARED)), 1000)
    data = b"\0\0\0\x02ok" + struct.pack(">i", length) + b"more"
    assert feed(frames, data, []) == [b"ok", b""], "what came before counts, and an empty frame is no request"
    assert feed(frames, b"\0\0\0\x02ok", []) == []


def test_nothing_is_held_between_frames() -> None:
    frames = Frames(memoryview(bytearray(SHARED)), 1000)
    assert feed(frames, struct.pack(">i", 300) + bytes(300), []) == [bytes(300)]
    assert frames._large is None
    assert frames._tail == b""
