"""Backups: taken while everything runs, complete or not there, checked before anything is touched."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainspring.core.backup import BackupError, Manifest, backup, check, restore
from mainspring.core.backup.container import MANIFEST, SQLITE_FILE
from mainspring.core.backup.restoring import DATABASE_FILE
from mainspring.core.clock import SystemClock, VirtualClock
from mainspring.core.data import DataFolder
from mainspring.core.database import Bool, Bytes, Duplicate, Int64, Json, Metadata, SqliteDatabase, Text, Violation
from mainspring.core.database.core_tables import log_positions, log_records
from mainspring.core.outbox import OutboxLog
from mainspring.core.ports import Connection, Database, Record
from tests.fixtures_database import PostgresServer, postgres_database

tables = Metadata("vault")
box = tables.table(
    "vault_box",
    sa.Column("id", Int64, primary_key=True),
    sa.Column("name", Text, nullable=False, unique=True),
    sa.Column("note", Text),
    sa.Column("content", Bytes),
    sa.Column("sealed", Bool, nullable=False),
    sa.Column("labels", Json),
    sa.CheckConstraint("id > 0", name="positive"),
    sa.Index("ix_vault_box_note", "note"),
)
# Its name comes first in the alphabet, and what it refers to must be there before it.
lid = tables.table("a_lid", sa.Column("box_id", Int64, sa.ForeignKey("vault_box.id"), primary_key=True))
INSERT, INSERT_LID = sa.insert(box), sa.insert(lid)
ALL = sa.select(*box.c).order_by(box.c.id)
LIDS = sa.select(lid.c.box_id).order_by(lid.c.box_id)
COUNT = sa.select(sa.func.count()).select_from(box)

ROWS = [
    {
        "id": n,
        "name": name,
        "note": note,
        "content": content,
        "sealed": n % 2 == 0,
        "labels": labels,
    }
    for n, (name, note, content, labels) in enumerate(
        [
            ("plain", "text", b"bytes", {"a": [1, None]}),
            ("empty", "", b"", []),
            ("nothing", None, None, None),
            ("escapes \\ \\N \t \n \r \b \f \v \\x00 'quotes\" %s", "\\", bytes(range(256)), "\\N"),
            ("ключ 🔑", "\\.", b"\\N", "\n"),
        ],
        1,
    )
]
LARGEST = {**ROWS[0], "id": (1 << 63) - 1, "name": "the last"}


def fill(connection: Connection) -> None:
    connection.execute_many(INSERT, [*ROWS, LARGEST])
    connection.execute(INSERT_LID, {"box_id": 1})
    for row in ROWS:
        connection.emit("vault.filled", str(row["name"]).encode(), b"key", [("h", b"\xff")])


def everything(connection: Connection) -> list[Any]:
    return [connection.execute(statement).all() for statement in (ALL, LIDS)]


def add_pair(connection: Connection, n: int) -> None:
    """Two rows that are there together or not at all."""
    connection.execute(INSERT, {**ROWS[0], "id": n, "name": f"pair {n}"})
    connection.execute(INSERT_LID, {"box_id": n})


async def prepare(database: Database) -> None:
    await database.prepare("vault", tables)


@asynccontextmanager
async def embedded(data: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(data / DATABASE_FILE, floor_bytes=0, ballast_bytes=4096)
    await database.start()
    try:
        yield database
    finally:
        await database.stop()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def saved(tmp_path: Path) -> Path:
    """A backup of an embedded database and of the files beside it."""
    data = tmp_path / "original"
    async with embedded(data) as database:
        await prepare(database)
        await database.write(fill)
        (data / "mainspring.toml").write_text("port = 1\n")
        (data / "keys").mkdir()
        (data / "keys" / "signing.pem").write_text("secret")
        (data / "keys" / "signing.pem").chmod(0o640)
        await backup(database, tmp_path / "saved")
    return tmp_path / "saved"


async def content(data: Path) -> list[Any]:
    async with embedded(data) as database:
        await prepare(database)
        rows: list[Any] = await database.read(everything)
        return rows


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"lock"}


async def test_what_is_put_back_is_what_was_there(saved: Path, tmp_path: Path) -> None:
    manifest = await restore(saved, tmp_path / "new")
    assert await content(tmp_path / "new") == await content(tmp_path / "original")
    assert (tmp_path / "new" / "mainspring.toml").read_text() == "port = 1\n"
    assert (tmp_path / "new" / "keys" / "signing.pem").read_text() == "secret"
    assert (tmp_path / "new" / "keys" / "signing.pem").stat().st_mode & 0o777 == 0o640
    assert manifest.dialect == "sqlite"
    assert manifest.revisions["vault"] == "vault_0001"


async def test_only_what_a_new_folder_needs_is_saved(tmp_path: Path) -> None:
    data = tmp_path / "data"
    folder = DataFolder(data)
    async with embedded(data) as database:
        await folder.listen({})
        for name in ("views/a.view", "cache/x", "views2/kept", "kept"):
            (data / name).parent.mkdir(exist_ok=True)
            (data / name).write_text(name)
        (data / "link").symlink_to("/etc/passwd")
        manifest = await backup(database, tmp_path / "saved")
    await folder.close()
    assert names(tmp_path / "saved") == {MANIFEST, SQLITE_FILE, "data/views2/kept", "data/kept"}
    assert {file.path for file in manifest.files} == names(tmp_path / "saved") - {MANIFEST}
    assert (tmp_path / "saved").stat().st_mode & 0o077 == 0, "keys and everybody's data are in there"


async def test_a_backup_is_one_moment_of_a_database_that_is_being_written(tmp_path: Path) -> None:
    async with embedded(tmp_path / "data") as database:
        await prepare(database)
        done = asyncio.Event()
        written = 0

        async def keep_writing() -> None:
            nonlocal written
            while not done.is_set():
                written += 1
                await database.write(add_pair, written)

        writers = [asyncio.ensure_future(keep_writing()) for _ in range(4)]
        before = await database.read(lambda connection: connection.execute(COUNT).scalar())
        for n in range(3):
            await backup(database, tmp_path / f"saved {n}")
        done.set()
        await asyncio.gather(*writers)
    await restore(tmp_path / "saved 2", tmp_path / "new")
    boxes, lids = await content(tmp_path / "new")
    assert before <= len(boxes) <= written
    assert [row[0] for row in boxes] == [row[0] for row in lids] == list(range(1, len(boxes) + 1))


async def test_progress_is_told_and_ends_at_the_whole(saved: Path, tmp_path: Path) -> None:
    told: dict[str, tuple[int, int]] = {}

    def note(what: str, done_bytes: int, expected_bytes: int) -> None:
        assert told.get(what, (0, 0))[0] <= done_bytes <= expected_bytes
        told[what] = (done_bytes, expected_bytes)

    manifest = await asyncio.to_thread(check, saved, note)
    assert told == {file.path: (file.size_bytes, file.size_bytes) for file in manifest.files if file.size_bytes}


@pytest.mark.parametrize("there", ["file", "folder"])
async def test_a_backup_overwrites_nothing(tmp_path: Path, there: str) -> None:
    target = tmp_path / "target"
    if there == "file":
        target.write_text("mine")
    else:
        (target / "mine").mkdir(parents=True)
    async with embedded(tmp_path / "data") as database:
        with pytest.raises(BackupError, match="exists already"):
            await backup(database, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "target"]


async def test_an_empty_folder_may_be_the_target(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    async with embedded(tmp_path / "data") as database:
        await backup(database, tmp_path / "target")
    check(tmp_path / "target")


async def test_a_backup_inside_the_folder_that_it_saves_is_refused(tmp_path: Path) -> None:
    async with embedded(tmp_path / "data") as database:
        for target in (tmp_path / "data", tmp_path / "data" / "backups" / "one"):
            with pytest.raises(BackupError, match="lost with it"):
                await backup(database, target)
        assert not (tmp_path / "data" / "backups").exists()


async def test_a_backup_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("")
    async with embedded(tmp_path / "data") as database:
        with pytest.raises(BackupError, match="cannot be written"):
            await backup(database, tmp_path / "a file" / "backup")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a file", "data"]


async def test_a_database_that_is_itself_damaged_is_not_saved_as_if_it_were_whole(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with embedded(data) as database:
        await prepare(database)
        for n in range(1, 200):
            await database.write(add_pair, n)
    with (data / DATABASE_FILE).open("r+b") as file:
        size = file.seek(0, 2)
        for page in range(4096 * 5, size, 4096):
            file.seek(page + 8)
            file.write(b"\xff" * 64)
    async with embedded(data) as database:
        with pytest.raises(BackupError, match="damaged"):
            await backup(database, tmp_path / "saved")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(picked=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), which=st.integers(0, 20))
async def test_any_bit_that_changed_is_noticed(saved: Path, picked: float, bit: int, which: int) -> None:
    files = sorted(path for path in saved.rglob("*") if path.is_file())
    file = files[which % len(files)]
    whole = file.read_bytes()
    at = int(picked * len(whole))
    right = check(saved)
    file.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
    try:
        found = check(saved)
    except BackupError:
        found = None
    finally:
        file.write_bytes(whole)
    # White space between the values of the manifest means nothing.
    assert found is None or (file.name == MANIFEST and found == right)


@pytest.mark.parametrize("damage", ["missing", "cut", "longer"])
async def test_a_damaged_backup_changes_nothing_not_even_by_force(saved: Path, tmp_path: Path, damage: str) -> None:
    file = saved / "data" / "keys" / "signing.pem"
    if damage == "missing":
        file.unlink()
    else:
        file.write_text("sec" if damage == "cut" else "secret and more")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious").write_text("precious")
    with pytest.raises(BackupError, match=r"signing\.pem"):
        await restore(saved, mine, force=True)
    assert [path.name for path in mine.iterdir()] == ["precious"]


async def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "empty", tmp_path / "nothing"):
        with pytest.raises(BackupError, match="is not a backup"):
            await restore(source, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "data/../../outside", ""])
async def test_a_manifest_that_names_files_outside_is_refused(saved: Path, tmp_path: Path, path: str) -> None:
    manifest = check(saved)
    foreign = msgspec.structs.replace(manifest.files[0], path=path)
    write_manifest(saved, msgspec.structs.replace(manifest, files=(foreign,)))
    with pytest.raises(BackupError, match="outside"):
        await restore(saved, tmp_path / "new")


async def test_a_backup_of_a_later_format_is_refused(saved: Path, tmp_path: Path) -> None:
    write_manifest(saved, msgspec.structs.replace(check(saved), format=2))
    with pytest.raises(BackupError, match="format 2"):
        await restore(saved, tmp_path / "new")


def write_manifest(saved: Path, manifest: Manifest) -> None:
    from mainspring.core.backup.container import Writer

    Writer(saved).seal(manifest)


async def test_a_folder_that_is_not_empty_is_left_alone_unless_forced(saved: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with embedded(data) as database:
        await prepare(database)
        await database.write(add_pair, 7)
    (data / "views").mkdir()
    (data / "views" / "old.view").write_text("of the old database")
    before = names(data)
    with pytest.raises(BackupError, match="not empty"):
        await restore(saved, data)
    assert names(data) == before
    await restore(saved, data, force=True)
    assert names(data) == {DATABASE_FILE, "mainspring.toml", "keys/signing.pem"}
    assert await content(data) == await content(tmp_path / "original")


async def test_the_folder_of_a_running_server_is_left_alone_even_if_forced(saved: Path, tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    with pytest.raises(BackupError, match="in use"):
        await restore(saved, tmp_path / "data", force=True)
    await folder.close()
    await restore(saved, tmp_path / "data")


async def test_a_backup_is_not_restored_onto_itself(saved: Path) -> None:
    for data in (saved, saved.parent):
        with pytest.raises(BackupError, match="move it elsewhere"):
            await restore(saved, data, force=True)
    check(saved)


async def test_what_a_restore_left_that_was_cut_short_does_not_stop_the_next_one(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "new" / "restoring").mkdir(parents=True)
    (tmp_path / "new" / "restoring" / "half").write_text("")
    await restore(saved, tmp_path / "new")
    assert names(tmp_path / "new") == {DATABASE_FILE, "mainspring.toml", "keys/signing.pem"}


async def test_events_go_on_where_they_were_and_views_see_another_history(tmp_path: Path) -> None:
    async with embedded(tmp_path / "data") as database:
        log = OutboxLog(database, VirtualClock())
        await prepare(database)
        await database.write(fill)
        history = await log.history()
        consumer = log.consumer("g", ["vault.filled"], batch_records_max=2)
        seen = [record.value for record in await anext(consumer)]
        await consumer.commit()
        await backup(database, tmp_path / "saved")
        await log.stop()
    await restore(tmp_path / "saved", tmp_path / "new")
    async with embedded(tmp_path / "new") as database:
        log = OutboxLog(database, VirtualClock())
        assert await log.history() != history
        await log.append("vault.filled", b"new")
        rest = await anext(log.consumer("g", ["vault.filled"]))
        assert [*seen, *(record.value for record in rest)] == [*(str(row["name"]).encode() for row in ROWS), b"new"]
        await log.stop()


async def test_the_time_of_a_backup_is_the_clocks(tmp_path: Path) -> None:
    async with embedded(tmp_path / "data") as database:
        manifest = await backup(database, tmp_path / "saved", clock=VirtualClock())
    assert manifest.created_at == "2026-01-01T00:00:00+00:00"


def dsn_of(database: Any) -> str:
    from psycopg.conninfo import make_conninfo

    return str(make_conninfo(**database.parameters))


@asynccontextmanager
async def empty_schema(server: PostgresServer, name: str) -> AsyncIterator[str]:
    server.execute(f"CREATE SCHEMA {name}")
    try:
        yield server.dsn(name)
    finally:
        server.execute(f"DROP SCHEMA {name} CASCADE")


@asynccontextmanager
async def on_server(dsn: str) -> AsyncIterator[Any]:
    from mainspring.core.database.postgres import PostgresDatabase

    database = PostgresDatabase(dsn, pool_size=2)
    await database.start()
    try:
        yield database
    finally:
        await database.stop()


@pytest.mark.postgres
async def test_postgres_comes_back_with_its_rows_constraints_and_counters(
    postgres_server: PostgresServer, tmp_path: Path, stack: AsyncExitStack
) -> None:
    database = await stack.enter_async_context(postgres_database(postgres_server))
    await prepare(database)
    await database.write(fill)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mainspring.toml").write_text("port = 1\n")
    manifest = await backup(database, tmp_path / "saved", data=tmp_path / "data")
    assert manifest.dialect == "postgresql"
    assert manifest.rows["vault_box"] == len(ROWS) + 1
    await database.write(add_pair, 1000)  # after the backup

    dsn = await stack.enter_async_context(empty_schema(postgres_server, "restored_one"))
    await restore(tmp_path / "saved", tmp_path / "new", database=dsn)
    assert names(tmp_path / "new") == {"mainspring.toml"}
    new = await stack.enter_async_context(on_server(dsn))
    await prepare(new)
    boxes, lids = await new.read(everything)
    assert boxes == [tuple(row.values()) for row in [*ROWS, LARGEST]]
    assert lids == [(1,)]
    with pytest.raises(Duplicate):
        await new.write(lambda connection: connection.execute(INSERT, {**ROWS[0], "id": 77}).rowcount)
    for wrong in ({"id": -1}, {"id": 78, "name": None}):
        with pytest.raises(Violation):
            await new.write(lambda connection, wrong=wrong: connection.execute(INSERT, {**ROWS[0], **wrong}).rowcount)
    with pytest.raises(Violation):
        await new.write(lambda connection: connection.execute(INSERT_LID, {"box_id": 12345}).rowcount)
    indexes = sa.text("SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() ORDER BY indexname")
    there = [name for (name,) in await new.read(lambda connection: connection.execute(indexes).all())]
    assert {"ix_vault_box_note", "pk_vault_box", "uq_vault_box_name", "ix_log_records_topic_id"} <= set(there)


@pytest.mark.postgres
async def test_sequences_defaults_and_odd_names_come_back(
    postgres_server: PostgresServer, tmp_path: Path, stack: AsyncExitStack
) -> None:
    dsn = await stack.enter_async_context(empty_schema(postgres_server, "odd_names"))
    async with on_server(dsn) as database:
        postgres_server.execute(
            """
            CREATE TABLE odd_names."Odd ""Name" (
                "Id of" bigserial PRIMARY KEY, always bigint GENERATED ALWAYS AS IDENTITY,
                word text COLLATE "C" DEFAULT 'it''s %s' NOT NULL, small smallint DEFAULT -3
            );
            CREATE INDEX "Odd Index" ON odd_names."Odd ""Name" (lower(word)) WHERE small < 0;
            INSERT INTO odd_names."Odd ""Name" DEFAULT VALUES;
            INSERT INTO odd_names."Odd ""Name" DEFAULT VALUES;
            CREATE TABLE odd_names.unused (id bigserial);
            """
        )
        await backup(database, tmp_path / "saved")
    other = await stack.enter_async_context(empty_schema(postgres_server, "odd_restored"))
    await restore(tmp_path / "saved", tmp_path / "new", database=other)
    async with on_server(other) as database:
        add = sa.text('INSERT INTO "Odd ""Name" DEFAULT VALUES RETURNING *')
        assert await database.write(lambda connection: connection.execute(add).first()) == (3, 3, "it's %s", -3)
        first = sa.text("INSERT INTO unused DEFAULT VALUES RETURNING id")
        assert await database.write(lambda connection: connection.execute(first).scalar()) == 1
        definitions = sa.text(
            "SELECT indexdef FROM pg_indexes WHERE indexname = 'Odd Index' AND schemaname LIKE 'odd%'"
        )
        found = [text for (text,) in await database.read(lambda connection: connection.execute(definitions).all())]
        assert len(found) == 2
        assert len({text.replace("odd_names", "odd_restored") for text in found}) == 1


@pytest.mark.postgres
async def test_a_postgres_with_our_tables_is_left_alone_unless_forced(
    postgres_server: PostgresServer, tmp_path: Path, stack: AsyncExitStack
) -> None:
    async with postgres_database(postgres_server) as database:
        await prepare(database)
        await database.write(fill)
        await backup(database, tmp_path / "saved")
    other = await stack.enter_async_context(postgres_database(postgres_server))
    await prepare(other)
    await other.write(add_pair, 5)
    before = await other.read(everything)
    with pytest.raises(BackupError, match="has tables already"):
        await restore(tmp_path / "saved", tmp_path / "new", database=dsn_of(other))
    assert await other.read(everything) == before
    await restore(tmp_path / "saved", tmp_path / "new", database=dsn_of(other), force=True)
    assert (await other.read(everything))[0] == [tuple(row.values()) for row in [*ROWS, LARGEST]]


@pytest.mark.postgres
async def test_a_restore_that_fails_half_way_changes_nothing_on_the_server(
    postgres_server: PostgresServer, tmp_path: Path, stack: AsyncExitStack
) -> None:
    database = await stack.enter_async_context(postgres_database(postgres_server))
    await prepare(database)
    await database.write(fill)
    manifest = await backup(database, tmp_path / "saved")
    await database.write(add_pair, 1000)
    before = await database.read(everything)
    # A backup that was made wrong, and sealed so: a row of the last table is one too few.
    write_manifest(
        tmp_path / "saved", msgspec.structs.replace(manifest, rows={**manifest.rows, "vault_box": len(ROWS) + 2})
    )
    with pytest.raises(BackupError, match="not as many"):
        await restore(tmp_path / "saved", tmp_path / "new", database=dsn_of(database), force=True)
    assert await database.read(everything) == before
    assert names(tmp_path / "new") == set()


@pytest.mark.postgres
async def test_a_backup_of_postgres_is_one_moment_too(
    postgres_server: PostgresServer, tmp_path: Path, stack: AsyncExitStack
) -> None:
    database = await stack.enter_async_context(postgres_database(postgres_server))
    await prepare(database)
    done = asyncio.Event()
    numbers = iter(range(1, 1_000_000))

    async def keep_writing() -> None:
        while not done.is_set():
            await database.write(add_pair, next(numbers))

    writers = [asyncio.ensure_future(keep_writing()) for _ in range(3)]
    manifests = [await backup(database, tmp_path / f"saved {n}") for n in range(3)]
    done.set()
    await asyncio.gather(*writers)
    assert all(manifest.rows["vault_box"] == manifest.rows["a_lid"] for manifest in manifests)
    check(tmp_path / "saved 2")


OLD_LIFE = 1 << 50
"""Numbers of events in a server that has run for years, far past those of the one that the tests start."""


def age(connection: Connection) -> None:
    """Moves all events and positions to where they would be on such a server."""
    connection.execute(sa.update(log_records).values(id=log_records.c.id + OLD_LIFE))
    positions = sa.update(log_positions).where(log_positions.c.topic != "", log_positions.c.position > 0)
    connection.execute(positions.values(position=log_positions.c.position + OLD_LIFE))


async def half_read(database: Any) -> list[bytes]:
    """Fills a database and lets one group read two events of five; another has read all, a third none."""
    log = OutboxLog(database, SystemClock())
    await prepare(database)
    await database.write(fill)
    await log.register("none", ["vault.filled"])
    for group, batch_records_max in (("some", 2), ("all", 500)):
        consumer = log.consumer(group, ["vault.filled"], batch_records_max)
        batch = await anext(consumer)
        await consumer.commit()
        if group == "some":
            seen = values(batch)
    await log.stop()
    return seen


def values(batch: list[Record]) -> list[bytes]:
    return [record.value for record in batch]


async def assert_events_go_on(database: Any, seen: list[bytes]) -> None:
    log = OutboxLog(database, SystemClock())
    await log.append("vault.filled", b"new")
    all_of_them = [str(row["name"]).encode() for row in ROWS] + [b"new"]
    some = await anext(log.consumer("some", ["vault.filled"]))
    assert seen + values(some) == all_of_them
    assert (some[0].key, some[0].headers) == (b"key", (("h", b"\xff"),))
    assert values(await anext(log.consumer("all", ["vault.filled"]))) == [b"new"]
    assert values(await anext(log.consumer("none", ["vault.filled"]))) == all_of_them
    await log.stop()


@pytest.mark.postgres
async def test_events_of_a_server_that_had_run_for_years_go_on_in_a_new_one(
    postgres_server: PostgresServer, tmp_path: Path, stack: AsyncExitStack
) -> None:
    async with postgres_database(postgres_server) as database:
        seen = await half_read(database)
        await database.write(age)
        await backup(database, tmp_path / "saved")
    dsn = await stack.enter_async_context(empty_schema(postgres_server, "second_life"))
    await restore(tmp_path / "saved", tmp_path / "new", database=dsn)
    async with on_server(dsn) as new:
        await assert_events_go_on(new, seen)


@pytest.mark.postgres
async def test_an_embedded_database_can_move_to_postgres(
    postgres_server: PostgresServer, tmp_path: Path, stack: AsyncExitStack
) -> None:
    async with embedded(tmp_path / "data") as database:
        seen = await half_read(database)
        await database.write(age)
        before = await database.read(everything)
        await backup(database, tmp_path / "saved")
    dsn = await stack.enter_async_context(empty_schema(postgres_server, "moved_in"))
    with pytest.raises(BackupError, match="every system"):
        await restore(tmp_path / "saved", tmp_path / "new", database=dsn)
    await restore(tmp_path / "saved", tmp_path / "new", database=dsn, prepare=prepare, force=True)
    async with on_server(dsn) as new:
        assert await new.read(everything) == before
        await assert_events_go_on(new, seen)
    with pytest.raises(BackupError, match="has tables already"):
        await restore(tmp_path / "saved", tmp_path / "new", database=dsn, prepare=prepare)


@pytest.mark.postgres
@pytest.mark.parametrize("pruned", [False, True])
async def test_a_postgres_can_move_to_an_embedded_database(
    postgres_server: PostgresServer, tmp_path: Path, pruned: bool
) -> None:
    async with postgres_database(postgres_server) as database:
        seen = await half_read(database)
        if pruned:
            # Whatever is gone, the next event's number is past what the groups have seen.
            await database.write(lambda connection: connection.execute(sa.delete(log_records)).rowcount)
        before = await database.read(everything)
        await backup(database, tmp_path / "saved")
    with pytest.raises(BackupError, match="every system"):
        await restore(tmp_path / "saved", tmp_path / "new")
    assert names(tmp_path / "new") == set()
    await restore(tmp_path / "saved", tmp_path / "new", prepare=prepare)
    assert await content(tmp_path / "new") == before
    async with embedded(tmp_path / "new") as new:
        if pruned:
            log = OutboxLog(new, SystemClock())
            await log.append("vault.filled", b"new")
            assert values(await anext(log.consumer("some", ["vault.filled"]))) == [b"new"]
            await log.stop()
        else:
            await assert_events_go_on(new, seen)


@pytest.mark.postgres
async def test_rows_of_a_system_that_this_version_does_not_know_are_not_dropped_in_silence(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    async def prepare_nothing(database: Database) -> None: ...

    async with postgres_database(postgres_server) as database:
        await prepare(database)
        await database.write(fill)
        await backup(database, tmp_path / "saved")
    with pytest.raises(BackupError, match=r"a_lid|vault_box"):
        await restore(tmp_path / "saved", tmp_path / "new", prepare=prepare_nothing)
    assert names(tmp_path / "new") == set()


async def test_tables_of_another_revision_are_not_mixed(tmp_path: Path) -> None:
    from mainspring.core.backup import crossing

    async with embedded(tmp_path / "data") as database:
        await prepare(database)
        manifest = await backup(database, tmp_path / "saved")
        older = msgspec.structs.replace(manifest, revisions={**manifest.revisions, "vault": "vault_0000"})
        with pytest.raises(BackupError, match="mainspring migrate"):
            await crossing.make_tables(database, older, prepare)
        await crossing.make_tables(database, manifest, prepare)
