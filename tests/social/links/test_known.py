"""The view of known codes: it is what the rows say, it costs nothing to restart, and floods of unknown codes cost no SQL."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mainspring.core.config import Config
from mainspring.core.ports import Database, Record
from mainspring.social.links import LinkEdit, Links, NewLink
from mainspring.social.links.known import TOPIC, Change, KnownCodes, encode_change, hash_of
from tests.social.links.conftest import GENEROUS, Listener, Start, listening, prepare, started
from tests.waiting import until

URL = "https://example.com/some/where"
CODES = st.lists(st.tuples(st.integers(0, 2), st.text("abc", min_size=1, max_size=4)), max_size=60)


def record(change: Change) -> Record:
    return Record(TOPIC, 0, 1, None, encode_change(change), (), 0)


class Rows:
    """A connection that has these rows."""

    def __init__(self, rows: list[tuple[int, str]]) -> None:
        self._rows = rows

    def execute(self, statement: object) -> list[tuple[int, str]]:
        return self._rows


@given(CODES, CODES)
@hypothesis_settings(deadline=None)
def test_a_snapshot_and_later_events_are_what_the_rows_say_byte_for_byte(
    before: list[tuple[int, str]], after: list[tuple[int, str]]
) -> None:
    first, second, rebuilt = KnownCodes(), KnownCodes(), KnownCodes()
    for code in before:
        first.apply(record(Change(*code, made=True)))
    second.restore(first.snapshot())
    for code in after:
        second.apply(record(Change(*code, made=True)))
    rebuilt.rebuild(Rows(list({*before, *after})))  # type: ignore[arg-type]
    assert second.snapshot() == rebuilt.snapshot() and len(second) == len({*before, *after})
    assert len(rebuilt.snapshot()) == 8 * len({*before, *after})
    second.ready = True
    for code in [*before, *after]:
        assert code in second
    assert (9, "none") not in second


def test_until_it_is_ready_every_code_may_exist() -> None:
    known = KnownCodes()
    assert (0, "x") in known
    known.ready = True
    assert (0, "x") not in known and hash_of(0, "x") != hash_of(1, "x")


async def test_a_flood_of_unknown_codes_asks_the_database_nothing(listener: Listener) -> None:
    links = listener.links
    made = await links.create(URL)
    await until(lambda: links.resolver.known.ready)
    loads = links.resolver.loads
    answers = await asyncio.gather(*(listener.visit(f"/guess{n}") for n in range(300)))
    assert {answer.status for answer in answers} == {404} and links.resolver.loads == loads
    assert (await listener.visit(f"/{made.code}")).status == 302
    later = await links.create(URL)
    assert (await listener.visit(f"/{later.code}")).status == 302


async def test_the_view_restarts_from_its_file_and_follows_from_there(database: Database, tmp_path: Path) -> None:
    await prepare(database)
    config = Config(data=str(tmp_path))
    async with started(database, config=config) as first:
        made = await first.add_many([NewLink(url=URL)] * 50)
        await until(lambda: first.resolver.known.ready)
    assert (tmp_path / "views" / "links.known.view").stat().st_size > 8 * 50
    async with started(database) as elsewhere:
        later = await elsewhere.create(URL)
    async with started(database, config=config) as again:
        # On PostgreSQL an event is final only once no older transaction runs, so that the newest may come a little later.
        known = again.resolver.known
        await until(lambda: known.ready and (0, later.code) in known)
        assert again._keeper is not None and again._keeper.rebuilds == 0
        for link in made:
            assert (0, link.code) in known  # type: ignore[union-attr]
        assert (0, "never-made") not in known


async def test_an_edit_on_one_node_reaches_the_other(start: Start, database: Database) -> None:
    one, two = await start(), await start()
    made = await one.create(URL, alias="x")
    async with listening(database, two) as listener:
        await until(lambda: two.resolver.known.ready)

        async def leads_to(target: str) -> bool:
            return (await listener.visit("/x")).headers.get("location") == target

        await until(lambda: leads_to(URL))
        await one.edit(made.id, LinkEdit(url=URL + "/new"))
        await until(lambda: leads_to(URL + "/new"))
        await one.domains.add("s.example")
        await until(lambda: "s.example" in two.domains.hosts)


async def test_many_nodes_racing_for_codes_and_aliases_give_each_once(start: Start) -> None:
    nodes: list[Links] = [await start() for _ in range(3)]
    wanted = [NewLink(url=URL, alias=f"a{n % 20}") for n in range(60)] + [NewLink(url=URL) for _ in range(60)]
    random.Random(3).shuffle(wanted)
    results: list[Any] = await asyncio.gather(
        *(nodes[n % 3].add(new) for n, new in enumerate(wanted)), return_exceptions=True
    )
    made = [one.code for one in results if not isinstance(one, BaseException)]
    assert len(made) == len(set(made)) == 80


@pytest.mark.parametrize("settings", [GENEROUS])
async def test_what_is_cached_takes_the_memory_that_the_readme_says(start: Start, settings: Any) -> None:
    """At most 300 bytes a link, measured over the key, the entry, the value and the share of the dictionary."""
    import tracemalloc

    links: Links = await start(settings=settings)
    made = await links.add_many([NewLink(url=URL + f"/{n:04}") for n in range(1000)])
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for link in made:
            await links.resolver.find(0, link.code)  # type: ignore[union-attr]
        cost = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert cost / len(made) <= 300 + 100  # what the database's read leaves behind is in it too
