"""The simulated disk against its own promise: synced bytes stay, the rest is any mixture of old and new sectors."""

import errno
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.simulator import SECTOR_BYTES, Disk


def kept(disk: Disk, name: str) -> None:
    disk.sync(name)
    disk.sync_folder()


def test_what_was_written_is_read_and_what_was_synced_survives() -> None:
    disk = Disk(Random(1))
    disk.write("a", 0, b"hello")
    disk.append("a", b" world")
    disk.write("a", 20, b"!")
    assert disk.read("a") == b"hello world" + bytes(9) + b"!" and disk.size("a") == 21
    assert disk.read("a", 6, 5) == b"world"
    kept(disk, "a")
    disk.crash()
    assert disk.read("a").startswith(b"hello world")


def test_unsynced_sectors_are_each_kept_or_lost_and_none_is_torn_inside() -> None:
    outcomes = set()
    for seed in range(200):
        disk = Disk(Random(seed))
        disk.write("a", 0, b"o" * SECTOR_BYTES * 3)
        kept(disk, "a")
        disk.write("a", 0, b"n" * SECTOR_BYTES * 3)
        disk.crash()
        data = disk.read("a")
        sectors = [data[at : at + SECTOR_BYTES] for at in range(0, len(data), SECTOR_BYTES)]
        assert all(sector in (b"o" * SECTOR_BYTES, b"n" * SECTOR_BYTES) for sector in sectors)
        outcomes.add(bytes(sector[0] for sector in sectors))
    assert len(outcomes) == 8


def test_an_unsynced_append_may_leave_the_old_length_or_zeros() -> None:
    outcomes = set()
    for seed in range(100):
        disk = Disk(Random(seed))
        disk.write("a", 0, b"o" * 100)
        kept(disk, "a")
        disk.append("a", b"n" * 1_000)
        disk.crash()
        data = disk.read("a")
        assert data.startswith(b"o" * 100) and len(data) in (100, 1_100)
        outcomes.add((len(data), data[100:101], data[-1:]))
    assert (1_100, b"\0", b"n") in outcomes and (1_100, b"n", b"\0") in outcomes


def test_any_of_several_unsynced_versions_of_a_sector_may_be_found() -> None:
    found = set()
    for seed in range(100):
        disk = Disk(Random(seed))
        disk.write("a", 0, b"0")
        kept(disk, "a")
        for version in (b"1", b"2", b"3"):
            disk.write("a", 0, version)
        disk.crash()
        found.add(disk.read("a"))
    assert found == {b"0", b"1", b"2", b"3"}


def test_names_are_durable_only_after_the_folder_was_synced_and_change_in_order() -> None:
    found = set()
    for seed in range(100):
        disk = Disk(Random(seed))
        disk.write("current", 0, b"old")
        kept(disk, "current")
        disk.write("next", 0, b"new")
        disk.sync("next")
        disk.rename("next", "current")
        disk.delete("current")
        disk.crash()
        found.add(tuple((name, disk.read(name)) for name in sorted(disk.names())))
    assert found == {
        (("current", b"old"),),
        (("current", b"old"), ("next", b"new")),
        (("current", b"new"),),
        (),
    }


def test_a_truncation_is_durable_after_a_sync() -> None:
    lengths = set()
    for seed in range(50):
        disk = Disk(Random(seed))
        disk.write("a", 0, b"x" * 2_000)
        kept(disk, "a")
        disk.truncate("a", 700)
        assert disk.size("a") == 700
        disk.crash()
        lengths.add(disk.size("a"))
        disk.truncate("a", 700)
        kept(disk, "a")
        disk.crash()
        assert disk.read("a") == b"x" * 700
    assert lengths == {700, 2_000}


def test_a_full_disk_says_so_and_a_part_may_have_been_written() -> None:
    sizes = set()
    for seed in range(50):
        disk = Disk(Random(seed), bytes_max=1_000)
        disk.write("a", 0, b"x" * 900)
        with pytest.raises(OSError) as full:
            disk.append("b", b"y" * 200)
        assert full.value.errno == errno.ENOSPC
        sizes.add(disk.size("b"))
        disk.write("a", 0, b"z" * 900)
        disk.delete("b")
        disk.append("a", b"x" * 100)
    assert min(sizes) < 20 and 80 < max(sizes) <= 100


def test_what_is_not_there_is_not_found() -> None:
    disk = Disk(Random(1))
    for call in (disk.read, disk.size, disk.sync, disk.delete):
        with pytest.raises(FileNotFoundError):
            call("a")
    with pytest.raises(FileNotFoundError):
        disk.rename("a", "b")


writes = st.tuples(st.just("write"), st.integers(0, 3_000), st.binary(min_size=1, max_size=1_500))
steps = st.lists(st.one_of(writes, st.tuples(st.just("sync")), st.tuples(st.just("crash"))), max_size=30)


@settings(max_examples=100, deadline=None)
@given(steps, st.integers(0, 2**32))
def test_between_crashes_a_disk_is_a_plain_file_and_after_one_every_sector_has_a_past(
    steps: list[tuple[object, ...]], seed: int
) -> None:
    disk = Disk(Random(seed))
    disk.write("a", 0, b"")
    kept(disk, "a")
    now, pasts = bytearray(), [b""]
    for step in steps:
        match step:
            case ("write", int(at), bytes(data)):
                disk.write("a", at, data)
                now.extend(bytes(max(0, at - len(now))))
                now[at : at + len(data)] = data
                pasts.append(bytes(now))
            case ("sync",):
                disk.sync("a")
                pasts = [bytes(now)]
            case _:
                disk.crash()
                found = disk.read("a")
                assert len(found) in (len(pasts[0]), len(now))
                for begin in range(0, len(found), SECTOR_BYTES):
                    sector = found[begin : begin + SECTOR_BYTES]
                    assert any(
                        past[begin : begin + SECTOR_BYTES].ljust(len(sector), b"\0")[: len(sector)] == sector
                        for past in pasts
                    )
                now, pasts = bytearray(found), [found]
        assert disk.read("a") == now
