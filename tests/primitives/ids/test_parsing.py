"""One reader for every kind: examples from the kinds' own documents, and what must be refused."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.clock import VirtualClock
from mainspring.primitives.ids import LAYOUTS, MAINSPRING, Layout, Minter, NotAnId, parse
from mainspring.primitives.ids.parsing import renderings

START_MS = 1_767_225_600_000
some_id = st.integers(0, (1 << 63) - 1)


@given(some_id)
def test_a_64_bit_id_is_read_in_every_notation_that_is_shown(value: int) -> None:
    tick = value >> 22
    # Decimal needs more letters than the fixed notations: that is so from the second day of the epoch on.
    value |= 1 << 60 if tick < 100_000_000 else 0
    shown = renderings(parse(value))
    for name in ("decimal", "hex", "base62", "base62_short", "crockford", "crockford_checked"):
        one = parse(shown[name])
        assert (one.kind, one.value) == ("mainspring", value)
    assert (one.worker, one.sequence) == (value >> 12 & 1023, value & 4095)


def test_an_id_tells_its_instant_worker_and_sequence() -> None:
    one = parse(Minter(MAINSPRING, 7, VirtualClock(wall_ns=START_MS * 1_000_000), 0, START_MS).next())
    assert one.time == datetime(2026, 1, 1, tzinfo=UTC)
    assert (one.kind, one.worker, one.bits) == ("mainspring", 7, 64) and one.sequence is not None


@pytest.mark.parametrize(
    ("text", "kind", "at"),
    [
        # Each from the document of its kind.
        ("017f22e2-79b0-7cc3-98c4-dc0c0c07398f", "uuid7", "2022-02-22T19:22:22+00:00"),
        ("1EC9414C-232A-6B00-B3C8-9F6BDECED846", "uuid6", "2022-02-22T19:22:22+00:00"),
        ("C232AB00-9414-11EC-B3C8-9F6BDECED846", "uuid1", "2022-02-22T19:22:22+00:00"),
        ("919108f7-52d1-4320-9bac-f847db4148a8", "uuid4", None),
        ("919108f752d143209bacf847db4148a8", "uuid4", None),
        ("00000000-0000-0000-0000-000000000000", "uuid", None),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "ulid", "2016-07-30T23:54:10.259000+00:00"),
        ("01arz3ndektsv4rrffq69g5fav", "ulid", "2016-07-30T23:54:10.259000+00:00"),
        ("0ujtsYcgvSTl8PAuAdqWYSMnLOv", "ksuid", "2017-10-10T04:00:47+00:00"),
        ("9m4e2mr0ui3e8a215n4g", "xid", "2011-03-22T17:50:19+00:00"),
        ("prefix_01h455vb4pex5vsknk084sn02q", "typeid", "2023-06-30T03:34:18.518000+00:00"),
        ("01h455vb4pex5vsknk084sn02q", "typeid", "2023-06-30T03:34:18.518000+00:00"),
        ("V1StGXR8_Z5jdHi6B-myT", "nanoid", None),
    ],
)
def test_examples_from_the_documents_of_every_kind(text: str, kind: str, at: str | None) -> None:
    one = parse(text)
    assert one.kind == kind
    assert (one.time.isoformat() if one.time else None) == at


def test_an_xid_tells_its_process_and_its_count() -> None:
    # The first example of the tests of rs/xid: machine 60f486, process e428.
    one = parse("9m4e2mr0ui3e8a215n4g")
    assert (one.worker, one.sequence) == (0x60F486E428, 4_271_561)


def test_a_typeid_is_the_uuid_of_the_standards_example() -> None:
    assert parse("prefix_01h455vb4pex5vsknk084sn02q").value == UUID("01890a5d-ac96-774b-bcce-b302099a8057").int


@pytest.mark.parametrize(
    ("layout", "text", "at"),
    [
        ("twitter", "1541815603606036480", "2022-06-28T16:07:40.105000+00:00"),
        ("discord", "175928847299117063", "2016-04-30T11:18:25.796000+00:00"),
    ],
)
def test_published_snowflakes_tell_their_instants(layout: str, text: str, at: str) -> None:
    one = parse(text, LAYOUTS[layout])
    assert one.kind == layout and one.time is not None and one.time.isoformat() == at


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "18446744073709551616",
        "99999999999999999999",
        "-5",
        "lYGhA16ahyg",
        "zzzzzzzzzzz",
        "G000000000000",
        "0ABCDEFGHJKMNX",
        "0xfffffffffffffffff",
        "0x",
        "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
        "aWgEPTl1tmebfsQzFP4bxwgy80W",
        "9M4E2MR0UI3E8A215N4G",
        "9m4e2mr0ui3e8a215n4v",
        "V1StGXR8_Z5jdHi6B!myT",
        "017f22e279b0-7cc3-98c4-dc0c0c07398f-",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
        "user_8zzzzzzzzzzzzzzzzzzzzzzzzz",
        "User_01h455vb4pex5vsknk084sn02q",
        "a" * 65,
        "1" * 91,
        "a" * 1_000_000,
        "１２３",
        "id\x00",
        "1.5",
    ],
)
def test_a_text_that_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(NotAnId):
        parse(text)


@pytest.mark.parametrize("number", [-1, 1 << 64, 1 << 63])
def test_a_number_outside_the_layout_is_refused(number: int) -> None:
    with pytest.raises(NotAnId):
        parse(number)


def test_the_largest_ulid_is_read_though_no_calendar_reaches_it() -> None:
    one = parse("7ZZZZZZZZZZZZZZZZZZZZZZZZZ")
    assert one.at_us == ((1 << 48) - 1) * 1000 and one.time is None


def test_a_typeid_of_the_longest_prefix_is_read_though_it_has_more_than_64_letters() -> None:
    text = "p" * 63 + "_01h455vb4pex5vsknk084sn02q"
    assert parse(text).prefix == "p" * 63


@given(st.text(max_size=100))
def test_any_text_is_an_id_or_refused(text: str) -> None:
    try:
        one = parse(text)
    except NotAnId:
        return
    assert sum(field.bits for field in one.fields) in (one.bits, 126)
    assert all(isinstance(shown, str) for shown in renderings(one).values())


@given(st.sampled_from([20, 21, 26, 27, 32]), st.data())
def test_texts_of_a_kinds_length_are_read_as_that_kind_or_refused(size: int, data: st.DataObject) -> None:
    letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ_-"
    test_any_text_is_an_id_or_refused.hypothesis.inner_test(  # type: ignore[attr-defined]
        data.draw(st.text(letters, min_size=size, max_size=size))
    )


def test_fields_add_up_to_the_id_in_every_layout() -> None:
    for name, layout in LAYOUTS.items():
        value = layout.join(1 << 30, min(3, layout.worker_max), 5)
        again = 0
        for field in parse(value, layout).fields:
            again = again << field.bits | field.value
        assert again == value, name
    assert parse(5, Layout(epoch_ms=0, time=40, worker=8, sequence=8)).kind == "custom"


def test_a_nanoid_that_begins_like_a_hexadecimal_number_is_a_nanoid() -> None:
    assert parse("0x3FyVpeuq3CkK9zo4xHJ").kind == "nanoid"
