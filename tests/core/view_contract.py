"""What every view must keep, for a system's tests to run on its own:

```python
@given(writes=st.lists(...), cut=st.integers(0, 20))
async def test_the_ranking_is_what_the_rows_say(writes, cut):
    await assert_view_is_what_the_rows_say(Ranking, ["leaderboard.scores"], [("leaderboard", tables)], writes, cut)
```
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from mainspring.core.clock import SystemClock
from mainspring.core.database import Metadata
from mainspring.core.outbox import OutboxLog, transactions
from mainspring.core.ports import Connection, Record
from mainspring.core.views import View, ViewKeeper
from tests.fixtures_database import embedded_database

Write = Callable[[Connection], Any]


async def assert_view_is_what_the_rows_say(
    make: Callable[[], View],
    topics: Sequence[str],
    prepared: Sequence[tuple[str, Metadata]],
    writes: Sequence[Write],
    cut: int,
) -> None:
    """Runs `writes`, each a transaction that changes rows and emits, on an empty embedded database, and compares.

    However a view came to be, by events from the start, by a snapshot taken after `cut` writes and the events from there
    on, by the rows alone, or by its keeper's file, its snapshot is the same, byte for byte.
    """
    with TemporaryDirectory() as folder:
        async with embedded_database(Path(folder)) as database:
            for name, metadata in prepared:
                await database.prepare(name, metadata)
            followed = await _rebuilt(database, make)
            for write in writes[:cut]:
                await database.write(write)
            seen = await _events(database, topics, 0)
            for record in seen:
                followed.apply(record)
            snapshot = followed.snapshot()
            assert snapshot == followed.snapshot(), "taking a snapshot changes nothing"
            assert snapshot == (await _rebuilt(database, make)).snapshot(), (
                "events from the start give what the rows say"
            )

            keeper = _keeper(make, database, topics, Path(folder))
            await keeper.start()
            await keeper.stop()
            for write in writes[cut:]:
                await database.write(write)
            later = await _events(database, topics, seen[-1].offset if seen else 0)
            restored = make()
            restored.restore(memoryview(snapshot))
            assert restored.snapshot() == snapshot, "a snapshot restores what it was taken of"
            for record in later:
                followed.apply(record)
                restored.apply(record)
            truth = (await _rebuilt(database, make)).snapshot()
            assert followed.snapshot() == truth, "events give what the rows say"
            assert restored.snapshot() == truth, "a snapshot and the events after it give what the rows say"

            keeper = _keeper(make, database, topics, Path(folder))
            await keeper.start()
            assert keeper.rebuilds == 0, "the keeper went on from its file"
            assert keeper.view.snapshot() == truth
            await database.read(keeper.view.rebuild)
            assert keeper.view.snapshot() == truth, "rebuilding forgets what was there before"
            await keeper.stop()


def _keeper(make: Callable[[], View], database: Any, topics: Sequence[str], folder: Path) -> ViewKeeper[View]:
    clock = SystemClock()
    log = OutboxLog(database, clock, random=Random(0))
    return ViewKeeper("contract", make(), database, log, clock, topics=topics, version=1, folder=folder)


async def _rebuilt(database: Any, make: Callable[[], View]) -> View:
    view = make()
    await database.read(view.rebuild)
    return view


async def _events(database: Any, topics: Sequence[str], after: int) -> list[Record]:
    events: list[Record] = []
    while True:
        batch, _, _ = await database.read(transactions.next_events, after, topics, 500)
        if not batch:
            return events
        events += batch
        after = batch[-1].offset
