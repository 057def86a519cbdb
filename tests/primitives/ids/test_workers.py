"""The table of workers in SQL does what its pure rules say, and takings race without giving a worker twice."""

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.primitives.ids import lease as rules
from mainspring.primitives.ids import workers
from mainspring.primitives.ids.lease import Granted, Lost, NoneLeft, Release, Renew, Renewed, Take, Terms, Worker

from .conftest import START_MS, Line

TERMS = Terms(worker_max=5)


class Model:
    """The table as a dictionary, by the pure rules."""

    def __init__(self) -> None:
        self.rows: dict[int, Worker] = {}

    def ask(self, asked: Take | Renew | Release) -> object:
        if isinstance(asked, Take):
            if asked.worker is not None:
                row = self.rows.get(asked.worker) or Worker(asked.worker, None, 0, 0, 0)
            else:
                chosen = rules.choose(self.rows.values(), asked.now_ms, TERMS)
                if chosen is None:
                    return NoneLeft(tuple(self.rows[number] for number in sorted(self.rows)))
                row = chosen
            self.rows[row.worker], granted = rules.taken(row, asked, TERMS)
            return granted
        if isinstance(asked, Renew):
            found = rules.renewed(self.rows.get(asked.worker), asked, TERMS)
            if found is None:
                return Lost()
            self.rows[asked.worker], renewed = found
            return renewed
        after = rules.released(self.rows.get(asked.worker), asked)
        if after is not None:
            self.rows[asked.worker] = after
        return None


@pytest.mark.parametrize("seed", range(4))
async def test_the_sql_does_what_the_rules_say(line: Line, seed: int) -> None:
    random, model, now_ms = Random(seed), Model(), START_MS
    fences = [0]
    for _ in range(150):
        now_ms += random.choice((0, 1, 500, 20_000, 40_000, -30_000, -3_600_000, 3_600_000))
        asked: Take | Renew | Release
        match random.randrange(6):
            case 0 | 1 | 2:
                asked = Take(f"p{random.randrange(99)}", random.choice((None, None, None, 3)), now_ms)
                answer: object = await line.write(workers.take, asked, TERMS)
            case 3 | 4:
                asked = Renew(random.randrange(6), random.choice(fences[-6:]), now_ms)
                answer = await line.write(workers.renew, asked, TERMS)
            case _:
                asked = Release(random.randrange(6), random.choice(fences[-6:]), now_ms - random.randrange(3_000))
                answer = await line.write(workers.release, asked)
        assert answer == model.ask(asked)
        if isinstance(answer, Granted):
            fences.append(answer.fence)
        rows = await line.read(workers.all_workers)
        assert rows == [model.rows[number] for number in sorted(model.rows)]


async def test_takings_race_without_giving_a_worker_twice(line: Line) -> None:
    terms = Terms(worker_max=40)
    answers = await asyncio.gather(
        *(line.write(workers.take, Take(f"p{number}", None, START_MS), terms) for number in range(30))
    )
    assert sorted(granted.worker for granted in answers) == list(range(30))


async def test_renewals_race_with_a_taking_and_no_millisecond_is_given_twice(line: Line) -> None:
    granted = await line.write(workers.take, Take("old", None, START_MS), TERMS)
    for turn in range(10):
        now_ms = START_MS + 40_000 * (turn + 1)
        renewals = [line.write(workers.renew, Renew(0, granted.fence, now_ms - number), TERMS) for number in range(5)]
        *renewed, heir = await asyncio.gather(*renewals, line.write(workers.take, Take(f"new{turn}", 0, now_ms), TERMS))
        kept = [granted.high_ms, *(answer.high_ms for answer in renewed if isinstance(answer, Renewed))]
        assert max(kept) <= heir.low_ms < heir.high_ms or heir.low_ms == heir.high_ms
        granted = heir


async def test_holders_of_the_past_are_remembered_and_the_oldest_forgotten(line: Line) -> None:
    for number in range(70):
        await line.write(workers.take, Take(f"p{number}", 0, START_MS + number * 10_000), TERMS)
    found = await line.read(workers.holder_of, 0, START_MS + 65 * 10_000 + 100)
    assert found == ("p65", 66)
    assert await line.read(workers.holder_of, 0, START_MS + 100) is None


times = st.integers(START_MS - 10_000_000, START_MS + 10_000_000)
rows_of = st.lists(
    st.builds(
        Worker,
        worker=st.integers(0, 7),
        holder=st.sampled_from([None, "a", "b"]),
        fence=st.integers(1, 9),
        reserved_ms=times,
        renewed_ms=times,
    ),
    unique_by=lambda row: row.worker,
    max_size=8,
)


@given(rows_of, times)
def test_a_held_worker_is_never_chosen_nor_one_that_cannot_mint_yet(rows: list[Worker], now_ms: int) -> None:
    chosen = rules.choose(rows, now_ms, TERMS)
    usable = [
        row
        for row in rows
        if row.worker <= TERMS.worker_max
        and (row.holder is None or now_ms - row.renewed_ms >= TERMS.free_after_ms)
        and row.reserved_ms < now_ms + TERMS.reserve_ms
    ]
    used = {row.worker for row in rows}
    unused = [number for number in range(TERMS.worker_max + 1) if number not in used]
    if chosen is None:
        assert not usable and not unused
    elif chosen.fence == 0:
        assert chosen.worker == min(unused)
        assert all(row.reserved_ms > now_ms for row in usable)
    else:
        assert chosen in usable
        assert chosen.reserved_ms <= now_ms or not unused


@given(rows_of, st.lists(st.tuples(times, st.booleans()), max_size=20))
def test_a_taking_begins_where_everything_before_it_ended(rows: list[Worker], asks: list[tuple[int, bool]]) -> None:
    for row in rows[:1]:
        end = row.reserved_ms
        for now_ms, renews in asks:
            found = rules.renewed(row, Renew(row.worker, row.fence, now_ms), TERMS) if renews else None
            if found:
                row, answer = found
                assert answer.high_ms >= end
            else:
                row, granted = rules.taken(row, Take("p", None, now_ms), TERMS)
                assert granted.low_ms == end
            assert row.reserved_ms >= end
            end = row.reserved_ms
