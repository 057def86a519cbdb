"""Moving blobs, proving buckets and saving segments: by the functions, and by the commands as an operator types them."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from mainspring.core.application import Mainspring
from mainspring.core.backup import Prefix
from mainspring.core.config import load
from mainspring.core.ports import Blob
from mainspring.storage.objects import CloudBlobs, ObjectBlobs, Objects, Report, is_genuine, move_blobs, total_bytes
from mainspring.storage.objects.moving import Differs
from tests.needs import REPOSITORY, need_module
from tests.storage.objects.conftest import STRIPE_BYTES, MakeStore, bytes_of
from tests.storage.objects.s3.conftest import started
from tests.storage.objects.s3.running import aside


async def test_blobs_are_moved_once_and_compared(make_store: MakeStore) -> None:
    objects: Objects = (await make_store(1)).objects
    source, target = ObjectBlobs(objects, "source"), ObjectBlobs(objects, "target")
    for number in range(5):
        await source.put(f"a/{number}", b"%d" % number * 30_000, "x/y", metadata={"n": str(number)})
    seen: list[int] = []
    moved = await move_blobs(source, target, seen.append)
    assert (moved.blobs, moved.sent, moved.size_bytes) == (5, 5, await total_bytes(source)) and seen[-1] == 150_000
    found = await target.head("a/3")
    assert (found.content_type, found.metadata) == ("x/y", {"n": "3"})
    await target.put("a/2", b"9" * 30_000)
    again = await move_blobs(source, target, seen.append)
    assert (again.blobs, again.sent) == (5, 1) and await target.get("a/2") == b"2" * 30_000


async def test_a_target_that_changes_bytes_is_found_out(make_store: MakeStore) -> None:
    objects: Objects = (await make_store(1)).objects

    class Careless(ObjectBlobs):
        async def put(self, name: str, body: Any, *args: Any, **kwargs: Any) -> Blob:
            whole = b"".join([chunk async for chunk in body])
            return await super().put(name, whole[::-1], *args, **kwargs)

    source = ObjectBlobs(objects, "source")
    await source.put("k", b"abc")
    with pytest.raises(Differs):
        await move_blobs(source, Careless(objects, "target"), lambda done: None)


async def put_something(data: Path) -> None:
    async with Mainspring(["objects"], load(settings=(), data=str(data), port=0, environment={})) as mainspring:
        objects = await mainspring.service(Objects)
        await ObjectBlobs(objects).put("a/b", b"x" * 300_000)
        await objects.create_bucket("photos")
        await objects.put("photos", "p", b"y" * 300_000)


def run_command(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mainspring", *words],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


async def test_the_commands_prove_a_bucket_and_move_blobs(tmp_path: Path) -> None:
    need_module("obstore")
    data, out = tmp_path / "own", tmp_path / "report.json"
    await put_something(data)
    proven = await aside(run_command, "objects", "prove", "photos", "--data", str(data), "--out", str(out))
    assert proven.returncode == 0, proven.stderr
    report = msgspec.json.decode(out.read_bytes(), type=Report)
    assert is_genuine(report) and (report.proven, report.bad_shards) == (1, 0)
    (tmp_path / "other").mkdir()
    async with started(tmp_path / "other") as door:
        await aside(door.client().create_bucket, Bucket="cloud")
        keys = f"{quote(door.access_key)}:{quote(door.secret_key, safe='')}"
        address = f"s3://{keys}@cloud?endpoint={door.address}"
        moved = await aside(run_command, "move", "blobs", "--to", address, "--data", str(data))
        assert moved.returncode == 0, moved.stderr
        assert "moved 1 blobs" in moved.stdout
        assert await CloudBlobs(address).get("a/b") == b"x" * 300_000
    segment = next((data / "objects").glob("*.segment"))
    with segment.open("r+b") as file:
        file.truncate(1000)
    broken = await aside(run_command, "objects", "prove", "photos", "--data", str(data))
    assert broken.returncode == 1


async def test_segments_stay_for_a_backup_and_hold_what_the_rows_of_its_moment_name(
    make_store: MakeStore, tmp_path: Path
) -> None:
    store = await make_store(2, segment_bytes=100_000)
    objects: Objects = store.objects
    await objects.create_bucket("box")
    bodies = {f"k{number}": bytes([number]) * (STRIPE_BYTES + number) for number in range(8)}
    for key, body in bodies.items():
        await objects.put("box", key, body)
    kept = objects.kept(store.directories[0].parent)
    copy = tmp_path / "copy"
    async with kept.at_rest():
        await objects.database.backup_to(tmp_path / "copy.db")
        image = kept.image()
    for key in bodies:
        await objects.delete("box", key)
    assert await objects.upkeep.compact() == 0
    await asyncio.to_thread(copy_files, image.files, copy)
    image.drop()
    assert await objects.upkeep.compact() > 0
    assert await reopened(tmp_path, copy) == bodies


def copy_files(files: list[Prefix], target: Path) -> None:
    for file in files:
        place = target / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        whole = file.path.read_bytes()
        place.write_bytes(whole if file.size_bytes is None else whole[: file.size_bytes])


async def reopened(tmp_path: Path, copy: Path) -> dict[str, bytes]:
    """What a store says that is opened on a copy of the database and of the segments."""
    from mainspring.core.clock import SystemClock
    from tests.fixtures_database import embedded_database
    from tests.storage.objects.conftest import RoomyFiles, small_settings

    (tmp_path / "again").mkdir()
    shutil.copy(tmp_path / "copy.db", tmp_path / "again" / "test.db")
    async with embedded_database(tmp_path / "again") as database:
        directories = sorted(path for path in copy.iterdir())
        objects = Objects(database, SystemClock(), small_settings(), directories=directories, files=RoomyFiles())
        await objects.start()
        page = await objects.list("box")
        found = {one.key: await bytes_of(objects, one.key) for one in page.entries}
        await objects.stop()
    return found
