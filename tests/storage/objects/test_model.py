"""The store step by step beside an executable model of it, with disks that are lost, bodies that break off, and restarts."""

import asyncio
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from mainspring.core.clock import SystemClock
from mainspring.core.database import SqliteDatabase
from mainspring.core.linear import History, check, compare_and_set
from mainspring.storage.objects import Objects
from mainspring.storage.objects.conditions import WriteIf
from mainspring.storage.objects.errors import NoSuchKey, PreconditionFailed
from mainspring.storage.objects.model import Versioning
from mainspring.storage.objects.moves import Delete, Source
from mainspring.storage.objects.multipart import Wanted
from mainspring.storage.objects.staging import StagedPut
from mainspring.storage.objects.tables import tables
from tests.storage.objects.conftest import (
    MIGRATIONS,
    SMALL_BYTES,
    STRIPE_BYTES,
    MakeStore,
    RoomyFiles,
    bytes_of,
    keys_of,
    small_settings,
)
from tests.storage.objects.consistency import assert_consistent
from tests.storage.objects.reference import Bucket

T = TypeVar("T")
DISKS = 3
KEYS = st.sampled_from(["a", "a/b", "a/c", "b", "é"])
SIZES = st.sampled_from([0, 1, 300, SMALL_BYTES, SMALL_BYTES + 1, STRIPE_BYTES + 3, 2 * STRIPE_BYTES])


class Machine(RuleBasedStateMachine):
    """Each rule does one thing to both, and what can be seen must be equal after each."""

    uploads: Bundle[Any] = Bundle("uploads")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="objects-"))
        self.runner = asyncio.Runner()
        self.model = Bucket()
        self.seed = 0
        self.lost_since_heal = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def body(self, size: int) -> bytes:
        self.seed += 1
        return random.Random(self.seed).randbytes(size)

    @initialize()
    def begin(self) -> None:
        async def start() -> None:
            self.database = SqliteDatabase(self.folder / "db", floor_bytes=0, ballast_bytes=0, write_deadline_s=60)
            await self.database.start()
            await self.database.prepare("objects", tables, MIGRATIONS)
            await self.open()
            await self.objects.create_bucket("box")

        self.run(start())

    async def open(self) -> None:
        disks = [self.folder / f"disk{number}" for number in range(DISKS)]
        chosen = small_settings(segment_bytes=150_000)
        self.objects = Objects(self.database, SystemClock(), chosen, directories=disks, files=RoomyFiles())
        await self.objects.start()

    @rule(key=KEYS, size=SIZES)
    def put(self, key: str, size: int) -> None:
        body = self.body(size)
        self.model.put(key, self.run(self.objects.put("box", key, body)).version, body)

    @rule(key=KEYS)
    def put_only_if_absent(self, key: str) -> None:
        body = self.body(10)
        try:
            made = self.run(self.objects.put("box", key, body, condition=WriteIf(none_match="*")))
        except PreconditionFailed:
            assert self.model.current(key) is not None
        else:
            assert self.model.current(key) is None
            self.model.put(key, made.version, body)

    @rule(key=KEYS)
    def put_breaks_off(self, key: str) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield bytes(STRIPE_BYTES + 1)
            raise ConnectionResetError

        async def put() -> None:
            try:
                await self.objects.put("box", key, broken())
            except ConnectionResetError:
                return
            raise AssertionError("a body that broke off was taken")

        self.run(put())

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.model.delete(key, self.run(self.objects.delete("box", key)).version or "")

    @rule(key=KEYS, which=st.integers(0, 3))
    def delete_version(self, key: str, which: int) -> None:
        versions = self.model.keys.get(key, [])
        if which < len(versions):
            name = versions[which].name
            self.run(self.objects.delete("box", key, name))
            self.model.delete_version(key, name)

    @rule(source=KEYS, to=KEYS)
    def copy(self, source: str, to: str) -> None:
        content = self.model.current(source)
        try:
            made, _ = self.run(self.objects.copy(Source("box", source), "box", to))
        except NoSuchKey:
            assert content is None
        else:
            self.model.put(to, made.version, content)

    @rule(source=KEYS, to=KEYS)
    def rename(self, source: str, to: str) -> None:
        content = self.model.current(source)
        if source == to:
            return
        try:
            made = self.run(self.objects.rename("box", source, to))
        except NoSuchKey:
            assert content is None
            return
        marker = self.run(self.objects.list_versions("box", source)).entries
        self.model.delete(source, next((one.version for one in marker if one.key == source), ""))
        self.model.put(to, made.version, content)

    @rule(put=KEYS, gone=KEYS, size=SIZES, holds=st.booleans())
    def commit(self, put: str, gone: str, size: int, holds: bool) -> None:
        if put == gone:
            return
        body, condition = self.body(size), WriteIf() if holds else WriteIf(match="no such etag")
        try:
            done = self.run(self.objects.commit("box", [StagedPut(put, body), Delete(gone, condition=condition)]))
        except (PreconditionFailed, NoSuchKey):
            assert not holds
            return
        assert holds
        self.model.put(put, str(done[0].version), body)
        self.model.delete(gone, done[1].version or "")

    @rule(target=uploads, key=KEYS, sizes=st.lists(SIZES.filter(bool), min_size=1, max_size=3))
    def upload(self, key: str, sizes: list[int]) -> Any:
        async def begin() -> list[Wanted]:
            rows = [
                await self.objects.uploads.put_part("box", key, id, number, body)
                for number, body in enumerate(bodies, 1)
            ]
            return [Wanted(row.number, row.etag) for row in rows]

        bodies = [self.body(size) for size in sizes]
        id = self.run(self.objects.uploads.begin("box", key))
        return key, id, self.run(begin()), b"".join(bodies)

    @rule(upload=consumes(uploads), abort=st.booleans())
    def finish_upload(self, upload: Any, abort: bool) -> None:
        key, id, wanted, body = upload
        if abort:
            self.run(self.objects.uploads.abort("box", key, id))
        else:
            self.model.put(key, self.run(self.objects.uploads.complete("box", key, id, wanted)).version, body)

    @rule(to=st.sampled_from(["enabled", "suspended"]))
    def set_versioning(self, to: str) -> None:
        self.run(self.objects.set_versioning("box", Versioning[to.upper()]))
        self.model.versioning = to

    @rule()
    def compact(self) -> None:
        self.run(self.objects.upkeep.compact())

    @rule(number=st.integers(0, DISKS - 1))
    def lose_a_disk(self, number: int) -> None:
        if not self.lost_since_heal:
            shutil.rmtree(self.folder / f"disk{number}")
            self.lost_since_heal = True

    @rule()
    def heal(self) -> None:
        self.run(self.objects.upkeep.heal())
        self.lost_since_heal = False

    @rule(forget=st.booleans())
    def restart(self, forget: bool) -> None:
        """`forget` leaves the old one as a crash does: nothing is finished, nothing given back."""

        async def again() -> None:
            if forget:
                await self.objects.upkeep.stop()
            else:
                await self.objects.stop()
            await self.open()

        self.run(again())

    @invariant()
    def equal(self) -> None:
        if not hasattr(self, "objects"):
            return

        async def look() -> None:
            page = await self.objects.list("box")
            assert [(one.key, one.size) for one in page.entries] == self.model.listed()
            versions = await self.objects.list_versions("box")
            assert [(one.key, one.version, one.marker) for one in versions.entries] == list(self.model.versions())
            for key in self.model.keys:
                content = self.model.current(key)
                if content is not None:
                    assert await bytes_of(self.objects, key) == content

        self.run(look())

    def teardown(self) -> None:
        if hasattr(self, "objects"):
            self.run(self.objects.upkeep.heal())
            self.run(assert_consistent(self.objects))
            for key, versions in self.model.keys.items():
                for one in versions:
                    if one.content is not None:
                        assert self.run(bytes_of(self.objects, key, version=one.name)) == one.content
            self.run(self.objects.stop())
            self.run(self.database.stop())
        self.runner.close()
        shutil.rmtree(self.folder, ignore_errors=True)


TestModel = Machine.TestCase
TestModel.settings = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # a machine of files and threads shrinks slowly; its steps are short enough to read
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.slow
def test_many_more_steps_agree_with_the_model() -> None:
    run_state_machine_as_test(Machine, settings=settings(TestModel.settings, max_examples=150, derandomize=False))  # type: ignore[no-untyped-call]


async def test_histories_of_conditional_writers_and_readers_are_linearizable(make_store: MakeStore) -> None:
    objects: Objects = (await make_store(1)).objects
    await objects.create_bucket("box")
    history, ticks = History(), 0

    def tick() -> int:
        nonlocal ticks
        ticks += 1
        return ticks

    async def client(number: int) -> None:
        chance = random.Random(number)
        for step in range(12):
            key = f"k{chance.randrange(2)}"
            kind = chance.choice(["write", "read", "cas"])
            value = b"%d/%d" % (number, step) * chance.choice([1, SMALL_BYTES])
            if kind == "write":
                call = history.call(key, "write", value, at=tick())
                await objects.put("box", key, value)
                history.returned(call, None, at=tick())
                continue
            call = history.call(key, "read", None, at=tick())
            try:
                reader = await objects.get("box", key)
                seen: bytes | None = await reader.read()
            except NoSuchKey:
                seen = None
            history.returned(call, seen, at=tick())
            if kind == "cas":
                condition = WriteIf(none_match="*") if seen is None else WriteIf(match=reader.object.etag)
                call = history.call(key, "cas", (seen, value), at=tick())
                try:
                    await objects.put("box", key, value, condition=condition)
                except PreconditionFailed:
                    history.returned(call, False, at=tick())
                else:
                    history.returned(call, True, at=tick())

    await asyncio.gather(*(client(number) for number in range(6)))
    assert str(check(history, compare_and_set(None))) == "None"
    assert await keys_of(objects) == ["k0", "k1"]
