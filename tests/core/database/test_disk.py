"""What a full or damaged disk does to the embedded database."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import bindparam

from mainspring.core.database import Damaged, SqliteDatabase
from mainspring.core.ports import Connection
from mainspring.core.problems import StorageFull
from tests.core.database import shelf
from tests.core.database.shelf import add, book, codes
from tests.core.database.test_group_commit import started
from tests.waiting import until

REMOVE = sa.delete(book).where(book.c.code == bindparam("code"))


def remove(connection: Connection, code: str) -> int:
    return connection.execute(REMOVE, {"code": code}).rowcount


def rename(connection: Connection, code: str, title: str) -> int:
    return connection.execute(
        sa.update(book).where(book.c.code == bindparam("of")).values(title=title), {"of": code}
    ).rowcount


async def test_below_the_floor_only_writes_that_grow_are_refused(tmp_path: Path) -> None:
    free = 10_000_000
    database = await started(tmp_path / "test.db", floor_bytes=1_000_000, free_bytes=lambda: free)
    for code in "abc":
        await database.write(add, code)
    free = 999_999

    with pytest.raises(StorageFull):
        await database.write(add, "d")
    assert "nearly full" in str(database.unready())
    results = await asyncio.gather(
        database.write(add, "d"),
        database.write(remove, "a"),
        database.write(rename, "b", "B"),
        database.write(rename, "c", "C" * 50_000),
        database.write(lambda connection: connection.emit("t", b"")),
        return_exceptions=True,
    )
    assert [isinstance(result, StorageFull) or result for result in results] == [True, 1, 1, True, True]
    assert await database.read(codes) == ["b", "c"]
    free = 10_000_000

    assert await database.write(add, "d") == "d"
    assert database.unready() is None
    await database.stop()


async def test_a_write_that_meets_a_full_database_fails_alone(tmp_path: Path) -> None:
    database = await started(tmp_path / "test.db")
    await database.write(add, "a")

    def limit(raw: Any) -> None:
        raw.execute(f"PRAGMA max_page_count={raw.execute('PRAGMA page_count').fetchone()[0] + 4}")

    await database._alone(limit)
    results = await asyncio.gather(
        database.write(rename, "a", "A"),
        database.write(add, "big", "t" * 500_000),
        database.write(remove, "none"),
        return_exceptions=True,
    )
    assert [isinstance(result, StorageFull) or result for result in results] == [1, True, 0]
    assert await database.read(codes) == ["a"]
    assert await database.check() == []
    await database.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"may not mount a small file system: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_on_a_disk_filled_to_the_brim_rows_can_be_deleted_and_room_is_used_again(small_disk: Path) -> None:
    database = await started(small_disk / "test.db", floor_bytes=6_000_000, ballast_bytes=1_000_000)
    assert (small_disk / "test.db.ballast").stat().st_size == 1_000_000
    kept: list[str] = []

    async def fill(prefix: str) -> None:
        for number in range(10_000):
            try:
                kept.append(await database.write(add, f"{prefix}{number}", "t" * 3000))
            except StorageFull:
                return
        raise AssertionError("the disk never filled")

    await fill("first")
    with (small_disk / "of another program").open("wb", buffering=0) as other:
        try:
            while other.write(bytes(4096)):
                pass
        except OSError:
            pass
    with pytest.raises(StorageFull):
        await database.write(add, "no room", "t" * 3000)
    assert await database.read(codes) == sorted(kept)

    removed = kept[: len(kept) // 2]

    async def remove_one() -> bool:
        await database.write(remove, removed[0])
        del removed[0]
        return not removed

    await until(remove_one)
    del kept[: len(kept) // 2]
    assert await database.read(codes) == sorted(kept)
    kept.append(await database.write(add, "in the room of others", "t" * 3000))
    assert await database.read(codes) == sorted(kept)
    assert await database.check() == []
    await database.stop()


async def test_a_damaged_page_is_found_reported_and_does_not_spread(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    database = await started(path)
    for number in range(300):
        await database.write(add, f"{number:03}", "t" * 1000)
    await database.write(lambda connection: connection.emit("kept", b"whole"))
    assert await database.check() == []
    await database.stop()

    page_bytes = 4096
    with path.open("r+b") as file:
        content = file.read()
        damaged = [
            start
            for start in range(page_bytes, len(content), page_bytes)
            if b"t" * 900 in content[start : start + page_bytes]
        ]
        for start in damaged[10:20]:
            file.seek(start)
            file.write(b"\xa5" * page_bytes)

    database = SqliteDatabase(path, floor_bytes=0, ballast_bytes=0)
    await database.start()
    await database.prepare("shelf", shelf.tables)
    assert database.unready() is None
    found = await database.check()
    assert (found and "Page" in " ".join(found)) or "malformed" in " ".join(found)

    def titles(connection: Connection) -> list[Any]:
        return connection.execute(sa.select(book.c.title)).all()

    with pytest.raises(Damaged, match="restore a backup"):
        await database.read(titles)
    assert "malformed" in str(database.unready())
    with pytest.raises(Damaged):
        await database.write(titles)
    events = sa.text("SELECT value FROM log_records")
    assert await database.read(lambda connection: connection.execute(events).all()) == [(b"whole",)]
    await database.stop()


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    path.write_bytes(b"a shopping list, not a database\n" * 200)
    database = SqliteDatabase(path, ballast_bytes=0)
    with pytest.raises(Damaged, match="not a database"):
        await database.start()
    assert path.read_bytes().startswith(b"a shopping list")
    assert not (await asyncio.to_thread(lambda: [*tmp_path.glob("*.ballast")]))
