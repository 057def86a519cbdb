"""Listings equal a plain model: of keys, prefixes and pages, and of the moment that all pages of one show."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainspring.core.database import Timeout
from mainspring.storage.objects import Objects, listing, paging
from mainspring.storage.objects.errors import InvalidArgument, NoSuchBucket
from mainspring.storage.objects.model import Versioning
from tests.fixtures_database import embedded_database
from tests.storage.objects.conftest import MakeStore, keys_of, stores
from tests.waiting import PATIENCE_S


@pytest.fixture
async def make_store(database: Any, tmp_path: Path) -> AsyncIterator[MakeStore]:
    """On the embedded database and on PostgreSQL."""
    async with stores(database, tmp_path) as make:
        yield make


def expected_page(
    keys: Sequence[str], prefix: str, delimiter: str, after: str, count: int
) -> tuple[list[str], list[str], bool]:
    """What S3 says a page holds, from all keys."""
    shown: list[tuple[str, bool]] = []
    for key in sorted(keys, key=str.encode):
        if not key.startswith(prefix):
            continue
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        name = key if at < 0 else key[: at + len(delimiter)]
        if key.encode() <= after.encode() or name == after:
            continue
        if (name, at >= 0) not in shown[-1:]:
            shown.append((name, at >= 0))
    page = shown[:count]
    return [name for name, rolled in page if not rolled], [name for name, rolled in page if rolled], len(shown) > count


texts = st.text("ab/é\x00", max_size=6)
keys_sets = st.lists(texts.filter(bool), min_size=1, max_size=25, unique=True)


async def test_pages_equal_the_model_for_any_keys_prefix_delimiter_and_size(make_store: MakeStore) -> None:
    objects = (await make_store(1)).objects
    loop, number = asyncio.get_running_loop(), 0

    async def check(keys: list[str], prefix: str, delimiter: str, after: str, count: int) -> None:
        nonlocal number
        number += 1
        bucket = f"bucket{number}"
        await objects.create_bucket(bucket)
        await asyncio.gather(*(objects.put(bucket, key, b"") for key in keys))
        page = await objects.list(bucket, prefix, delimiter, after, count=count)
        names, prefixes, truncated = expected_page(keys, prefix, delimiter, after, count)
        assert ([one.key for one in page.entries], page.prefixes) == (names, prefixes)
        assert (page.token is not None) == (truncated and count > 0)
        all_names, all_prefixes, _ = expected_page(keys, prefix, delimiter, after, 1000)
        seen, rolled, token, marker = [one.key for one in page.entries], list(page.prefixes), page.token, page.next_key
        by_marker = set(seen) | set(rolled)
        while token is not None:
            page = await objects.list(bucket, prefix, delimiter, count=count, token=token)
            seen += [one.key for one in page.entries]
            rolled += page.prefixes
            token = page.token
        if count:
            assert (seen, rolled) == (all_names, all_prefixes)
        while marker is not None:
            page = await objects.list(bucket, prefix, delimiter, marker, count=count)
            by_marker |= {one.key for one in page.entries} | set(page.prefixes)
            marker = page.next_key
        assert by_marker == (set(seen) | set(rolled))

    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(keys_sets, texts, st.sampled_from(["", "/", "a", "ab", "é"]), texts, st.integers(0, 5))
    def examples(keys: list[str], prefix: str, delimiter: str, after: str, count: int) -> None:
        asyncio.run_coroutine_threadsafe(check(keys, prefix, delimiter, after, count), loop).result(60)

    await asyncio.to_thread(examples)


async def test_all_pages_of_a_listing_show_one_moment(objects: Objects) -> None:
    before = [f"k{number:02}" for number in range(12)]
    for key in before:
        await objects.put("box", key, key.encode())
    first = await objects.list("box", count=5)
    for key in ("k03", "k07", "k11"):
        await objects.delete("box", key)
    for key in ("k04", "k08", "k00a", "k99"):
        await objects.put("box", key, b"longer than before")
    await objects.rename("box", "k06", "k98")
    entries, token = list(first.entries), first.token
    while token is not None:
        page = await objects.list("box", count=5, token=token)
        entries += page.entries
        token = page.token
    assert [(one.key, one.size) for one in entries] == [(key, len(key)) for key in before]
    now = sorted({*before, "k00a", "k98", "k99"} - {"k03", "k07", "k11", "k06"})
    assert await keys_of(objects) == now
    assert await keys_of(objects, count=3) == now


async def test_rows_kept_for_a_listing_go_when_it_has_expired(make_store: MakeStore) -> None:
    from mainspring.core.clock import VirtualClock

    clock = VirtualClock()
    objects = (await make_store(1, clock=clock)).objects
    await objects.create_bucket("box")
    for number in range(5):
        await objects.put("box", f"k{number}", b"1")
    token = (await objects.list("box", count=2)).token
    for number in range(5):
        for _ in range(3):
            await objects.put("box", f"k{number}", b"22")
    await objects.delete("box", "k4")
    assert [one.key for one in (await objects.list("box", token=token)).entries] == ["k2", "k3", "k4"]
    rows = await objects.database.read(count_rows)
    assert rows == 4 + 5, "of each key the row that the listing shows is kept, and no other"
    await clock.advance(901)
    await objects.sweep()
    assert await objects.database.read(count_rows) == 4
    assert [one.key for one in (await objects.list("box", token=token)).entries] == ["k2", "k3"]
    await objects.delete("box", "k0")
    assert await objects.database.read(count_rows) == 3


def count_rows(connection: Any) -> int:
    from sqlalchemy import func, select

    from mainspring.storage.objects.tables import version

    count: int = connection.execute(select(func.count()).select_from(version)).scalar()
    return count


async def test_versions_are_listed_in_pages_that_may_end_within_a_key(objects: Objects) -> None:
    await objects.set_versioning("box", Versioning.ENABLED)
    made = []
    for key in ("a", "b/1", "b/2", "c"):
        for number in range(5):
            made.append((key, (await objects.put("box", key, b"%d" % number)).version))
    expected = sorted(made, key=lambda one: (one[0], -int(one[1][:16], 16)))
    for count in (1, 3, 5, 7, 100):
        seen, token = [], None
        while True:
            page = await objects.list_versions("box", count=count, token=token)
            seen += page.entries
            token = page.token
            if token is None:
                break
        assert [(one.key, one.version) for one in seen] == expected
        assert [one.latest for one in seen] == [number % 5 == 0 for number in range(20)]
    key, version = expected[7]
    page = await objects.list_versions("box", key_marker=key, version_marker=version)
    assert [(one.key, one.version) for one in page.entries] == expected[8:]
    rolled = await objects.list_versions("box", delimiter="/")
    assert rolled.prefixes == ["b/"] and {one.key for one in rolled.entries} == {"a", "c"}
    with pytest.raises(InvalidArgument):
        await objects.list_versions("box", version_marker=version)


async def test_a_delimiter_listing_reads_what_it_shows_and_not_what_is_below(make_store: MakeStore) -> None:
    objects = (await make_store(1)).objects
    await objects.create_bucket("box")
    await asyncio.gather(*(objects.put("box", f"p{number % 7}/{number:04}", b"") for number in range(1500)))
    reads = 0

    def counted(connection: Any, bucket: str, ask: listing.Ask) -> listing.Walked:
        nonlocal reads
        reads = 0  # a function may be run again

        class Counting:
            def execute(self, statement: Any, parameters: Any = None) -> Any:
                nonlocal reads
                rows = connection.execute(statement, parameters).all()
                reads += len(rows)

                class Rows:
                    all = staticmethod(lambda: rows)
                    first = staticmethod(lambda: rows[0] if rows else None)

                return Rows

        return listing.walk(Counting(), bucket, ask)  # type: ignore[arg-type]

    walked = await objects.database.read(counted, "box", listing.Ask(delimiter=b"/"))
    assert walked.prefixes == [b"p%d/" % number for number in range(7)]
    assert reads <= 9 * (listing.ROWS_FIRST + 1)


async def test_a_key_with_a_thousand_versions_costs_a_listing_little(make_store: MakeStore) -> None:
    objects = (await make_store(1)).objects
    await objects.create_bucket("box")
    await objects.set_versioning("box", Versioning.ENABLED)
    await asyncio.gather(*(objects.put("box", "a", b"%d" % number) for number in range(300)))
    await objects.put("box", "b", b"")
    assert await keys_of(objects) == ["a", "b"] and await keys_of(objects, count=1) == ["a", "b"]


@pytest.mark.parametrize("token", ["", "!", "AAAA", "gaNhYmM", "é"])
async def test_a_token_that_is_none_is_refused(objects: Objects, token: str) -> None:
    with pytest.raises(InvalidArgument):
        await objects.list("box", token=token)


async def test_a_short_page_is_told_at_once_and_a_long_one_is_not_tried_again_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("SHORT_LINES", 3), ("LONG_TIMES", 2), ("LONG_MAX", 4)):
        monkeypatch.setattr(paging, name, value)
    async with embedded_database(tmp_path) as database, stores(database, tmp_path) as make:
        database._readers._loop_budget_s = PATIENCE_S
        objects: Objects = (await make(1)).objects
        pages, tried, late = objects.paging, 0, False

        def read(*asked: Any) -> Any:
            nonlocal tried
            tried += 1
            if late:
                raise Timeout
            return database.read_at_once(*asked)

        monkeypatch.setattr(pages, "_read", read)
        with pytest.raises(NoSuchBucket):
            pages.keys_at_once("box", "", "", "", 1000)
        await objects.create_bucket("box")
        await asyncio.gather(*(objects.put("box", f"{folder}/{at}", b"") for folder in "abc" for at in range(4)))
        for prefix, delimiter, after in [
            ("", "/", ""),
            ("", "/", "a/"),
            ("b/3", "", ""),
            ("c/", "/", "c/0"),
            ("d", "", ""),
        ]:
            at_once = pages.keys_at_once("box", prefix, delimiter, after, 1000)
            assert at_once == await objects.list("box", prefix, delimiter, after)
        assert pages.keys_at_once("box", "a/", "", "", 2) is None, (
            "no moment is fixed yet that its next page could show"
        )
        first = await objects.list("box", "a/", count=2)
        assert pages.keys_at_once("box", "a/", "", "", 2) == first
        await objects.put("box", "a/00", b"")
        assert pages.keys_at_once("box", "a/", "", "", 2) is None, (
            "something has changed since the moment that was fixed"
        )

        def tries_of_six() -> int:
            nonlocal tried
            tried = 0
            for _ in range(6):
                assert pages.keys_at_once("box", "a/", "", "", 1000) is None
            return tried

        assert tries_of_six() == 2, "one, then two that are left out"
        late = True
        pages._long.clear()
        assert tries_of_six() == 3, "being late once is nothing yet"
        late = False
        for folder in "abcdefgh":
            pages.keys_at_once("box", folder, "", "", 1000)
        assert len(pages._long) <= 4
