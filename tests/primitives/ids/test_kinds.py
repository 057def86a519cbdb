"""The kinds without a worker: their form, their order, and what a fork must not repeat."""

import os
import re
import string
import sys
import threading
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.clock import SystemClock, VirtualClock
from mainspring.primitives.ids import Kinds, parse
from mainspring.primitives.ids.errors import BadPrefix, NotAnId
from mainspring.primitives.ids.kinds import from_typeid, typeid

MS = 1_000_000
START_MS = 1_767_225_600_000
MINTS: list[tuple[str, Callable[[Kinds], object], str]] = [
    ("uuid7", lambda kinds: str(kinds.uuid7()), r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"),
    ("ulid", lambda kinds: kinds.ulid(), r"[0-7][0-9A-HJKMNP-TV-Z]{25}"),
    ("ksuid", lambda kinds: kinds.ksuid(), r"[0-9A-Za-z]{27}"),
    ("xid", lambda kinds: kinds.xid(), r"[0-9a-v]{20}"),
    ("typeid", lambda kinds: kinds.typeid("user"), r"user_[0-7][0-9a-hjkmnp-tv-z]{25}"),
    ("nanoid", lambda kinds: kinds.nano(), r"[0-9A-Za-z_-]{21}"),
]
INCREASING = [one for one in MINTS if one[0] in ("uuid7", "ulid", "xid", "typeid")]


@pytest.mark.parametrize(("kind", "mint", "form"), MINTS)
def test_every_kind_has_its_form_and_is_read_back_with_its_instant(
    kind: str, mint: Callable[[Kinds], str], form: str
) -> None:
    kinds = Kinds(VirtualClock(wall_ns=START_MS * MS))
    texts = [mint(kinds) for _ in range(300)]
    assert len(set(texts)) == 300
    for text in texts:
        assert re.fullmatch(form, text)
        one = parse(text)
        assert (one.kind, one.text) == (kind, text)
        assert one.at_us == (None if kind == "nanoid" else START_MS * 1000)


@pytest.mark.parametrize(("kind", "mint", "form"), INCREASING)
def test_kinds_with_a_time_increase_whatever_the_clock_does(kind: str, mint: Callable[[Kinds], str], form: str) -> None:
    clock = VirtualClock(wall_ns=START_MS * MS)
    kinds = Kinds(clock)
    texts = []
    for move in (0, 1, -1, 5, -3_600_000, 1, 1, 7_200_000, -1, 0):
        clock.set_wall(clock.wall_ns() + move * MS)
        texts += [mint(kinds) for _ in range(600)]
    assert texts == sorted(set(texts))


@pytest.mark.parametrize(("kind", "mint", "form"), INCREASING)
def test_threads_share_them(kind: str, mint: Callable[[Kinds], str], form: str) -> None:
    kinds = Kinds(SystemClock())
    found: list[list[str]] = [[] for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(mine: list[str]) -> None:
        mine.extend(mint(kinds) for _ in range(5_000))

    try:
        threads = [threading.Thread(target=work, args=(mine,)) for mine in found]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    everything = [text for mine in found for text in mine]
    assert len(everything) == 20_000 == len(set(everything))
    for mine in found:
        assert mine == sorted(mine)


def test_an_interpreter_without_a_global_lock_mints_under_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    kinds = Kinds(VirtualClock(wall_ns=START_MS * MS))
    assert kinds.ulid.__name__ == "ulid_locked"
    ulids = [kinds.ulid() for _ in range(100)]
    uuids = [kinds.uuid7() for _ in range(5_000)]
    assert ulids == sorted(set(ulids)) and uuids == sorted(set(uuids))


def test_a_uuid_is_a_whole_uuid() -> None:
    import copy
    import pickle

    one = Kinds(SystemClock()).uuid7()
    assert type(one) is uuid.UUID and (one.version, one.variant) == (7, uuid.RFC_4122)
    assert uuid.UUID(str(one)) == one and pickle.loads(pickle.dumps(one)) == one and copy.copy(one) == one
    assert one.is_safe is uuid.SafeUUID.unknown and hash(one) == hash(uuid.UUID(int=one.int))


def test_4096_uuids_of_a_millisecond_spill_into_the_next() -> None:
    kinds = Kinds(VirtualClock(wall_ns=START_MS * MS))
    times = [kinds.uuid7().int >> 80 for _ in range(10_000)]
    assert set(times) == {START_MS, START_MS + 1, START_MS + 2}


def test_ulids_of_one_millisecond_count_up_by_one_and_carry() -> None:
    source = bytes.fromhex("ffffffffffffffff") * 512
    kinds = Kinds(VirtualClock(wall_ns=START_MS * MS), lambda count: source[:count])
    # All 80 bits are ones: the very next id would overflow.
    assert kinds.ulid().endswith("Z" * 16)
    with pytest.raises(OverflowError):
        kinds.ulid()
    low = (1).to_bytes(8) * 512
    kinds = Kinds(VirtualClock(wall_ns=START_MS * MS), lambda count: low[:count])
    values = [parse(kinds.ulid()).value for _ in range(3)]
    assert values == [values[0], values[0] + 1, values[0] + 2]


def test_a_ulid_carries_from_its_short_counter_into_the_rest() -> None:
    pool = ((0xFFFFE << 0) | (5 << 20)).to_bytes(8) * 512
    kinds = Kinds(VirtualClock(wall_ns=START_MS * MS), lambda count: pool[:count])
    values = [parse(kinds.ulid()).value for _ in range(5)]
    assert values == list(range(values[0], values[0] + 5))


def test_after_a_full_counter_an_xid_goes_on_in_the_next_second() -> None:
    kinds = Kinds(VirtualClock(wall_ns=START_MS * MS))
    kinds._xid_last = (START_MS // 1000 << 24) + 0xFFFFFE
    one, two = parse(kinds.xid()), parse(kinds.xid())
    assert (one.at_us, one.sequence) == (START_MS * 1000, 0xFFFFFF)
    assert (two.at_us, two.sequence) == (START_MS * 1000 + 1_000_000, 0)


def test_a_forked_child_repeats_nothing_that_its_parent_says() -> None:
    kinds = Kinds(VirtualClock(wall_ns=START_MS * MS))
    for _, mint, _ in MINTS:
        mint(kinds)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, "\n".join(str(mint(kinds)) for _, mint, _ in MINTS for _ in range(40)).encode())
        os._exit(0)
    os.close(write)
    theirs = set()
    with os.fdopen(read) as answers:
        theirs = set(answers.read().split())
    os.waitpid(child, 0)
    ours = {mint(kinds) for _, mint, _ in MINTS for _ in range(40)}
    assert len(theirs) == len(ours) == 240
    assert theirs.isdisjoint(ours)


letters = st.sampled_from(string.ascii_lowercase)
prefixes = st.text(letters, max_size=1) | st.builds(
    "".join, st.tuples(letters, st.text(string.ascii_lowercase + "_", max_size=61), letters)
)


@given(prefixes, st.integers(0, (1 << 128) - 1))
def test_a_typeid_comes_back(prefix: str, value: int) -> None:
    assert from_typeid(typeid(prefix, value)) == (prefix, value)


@pytest.mark.parametrize("prefix", ["_a", "a_", "_", "A", "ä", "a1", "a-b", "a" * 64, "a b"])
def test_a_prefix_that_typeid_does_not_know_is_refused(prefix: str) -> None:
    with pytest.raises(BadPrefix):
        typeid(prefix, 0)
    with pytest.raises(NotAnId):
        from_typeid(f"{prefix}_01h455vb4pex5vsknk084sn02q")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "_01h455vb4pex5vsknk084sn02q",
        "user_01H455VB4PEX5VSKNK084SN02Q",
        "user_81h455vb4pex5vsknk084sn02q",
        "user_01h455vb4pex5vsknk084sn02",
        "user_01h455vb4pex5vsknk084sn0ui",
        "user01h455vb4pex5vsknk084sn02q",
    ],
)
def test_a_text_that_is_no_typeid_is_refused(text: str) -> None:
    with pytest.raises(NotAnId):
        from_typeid(text)
