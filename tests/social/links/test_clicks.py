"""Clicks: none counted twice, none lost that was said to be kept, and a chart that costs its days."""

import asyncio
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mainspring.core.cache import MemoryCache
from mainspring.core.clock import SystemClock, VirtualClock
from mainspring.core.outbox import OutboxLog
from mainspring.core.ports import Consumer, Database, Log
from mainspring.core.problems import Unavailable
from mainspring.social.links import Links, LinksSettings, NewLink
from mainspring.social.links import clicks as clicks_room
from mainspring.social.links.clicks import BATCH_CLICKS_MAX, TOPIC, Batch, Click, Clicks, encode_batch
from mainspring.social.links.counting import LIVE
from mainspring.social.links.rollups import KEYS_MAX
from mainspring.social.links.stats import VisitFilter
from mainspring.social.links.visitors import Proxies, languages, limit_key, network_of, pseudonym
from tests.social.links.conftest import GENEROUS, Listener, Start, drain, listening
from tests.waiting import until

URL = "https://example.com/some/where"
DAY = 86_400_000_000
FIREFOX = "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0"
IPAD = (
    "Mozilla/5.0 (iPad; CPU OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.0 Mobile/15E148 Safari/604.1"
)


async def visit(listener: Listener, target: str, address: str = "192.0.2.1", **headers: str) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    await listener.visit(target, headers=named, client=(address, 1))


async def test_visits_are_told_apart_by_every_dimension(listener: Listener) -> None:
    links = listener.links
    made = await links.create(URL, alias="x", tags=("t",))
    await visit(listener, "/x", user_agent=FIREFOX, referer="https://news.example/a", accept_language="de-AT,en;q=0.5")
    await visit(listener, "/x?qr=1", "192.0.2.200", user_agent=IPAD, accept_language="en")
    await visit(listener, "/x", "198.51.100.1", user_agent="Googlebot/2.1 (+http://www.google.com/bot.html)")
    await visit(listener, "/x", "203.0.113.1", user_agent=FIREFOX, dnt="1", referer="https://secret.example/")
    await visit(listener, "/nothing")
    await drain(links)
    now = links.now_us()

    async def points(by: Any, scope: str = f"link:{made.id}") -> dict[str, tuple[int, int]]:
        found = await links.stats(scope, now - DAY, now + DAY, by)
        assert sum(point.clicks for point in found.points) == found.clicks
        return {point.key: (point.clicks, point.bots) for point in found.points}

    assert await points("browser") == {"firefox": (1, 0), "safari": (1, 0), "": (1, 0), "googlebot": (1, 1)}
    assert (await points("os"))["ios"] == (1, 0)
    assert await points("device") == {"desktop": (1, 0), "tablet": (1, 0), "": (2, 1)}
    assert await points("language") == {"de-at": (1, 0), "en": (1, 0), "": (2, 1)}
    assert await points("referrer") == {"news.example": (1, 0), "": (3, 1)}
    assert await points("source") == {"click": (3, 1), "qr": (1, 0)}
    assert await points("country") == {"": (4, 1)}
    assert list((await points("hour")).values()) == list((await points("day")).values()) == [(4, 1)]
    for scope in ("all", "tag:t", "domain:0"):
        assert await points("browser", scope) == await points("browser")
    assert await points("source", "orphan") == {"invalid_short_url": (1, 1)}
    assert (await links.stats(f"link:{made.id}", now - DAY, now + DAY)).visitors == 2
    assert await links.counting.sums([f"link:{made.id}", "all", "orphan", "none"]) == {
        f"link:{made.id}": (4, 1),
        "all": (4, 1),
        "orphan": (1, 1),
    }


async def test_a_visit_before_a_link_was_made_is_not_the_links(listener: Listener) -> None:
    await visit(listener, "/x", user_agent=FIREFOX)
    made = await listener.links.create(URL, alias="x")
    await visit(listener, "/x", user_agent=FIREFOX)
    await drain(listener.links)
    assert await listener.links.counting.sums([f"link:{made.id}", "orphan"]) == {
        f"link:{made.id}": (1, 0),
        "orphan": (1, 0),
    }


async def test_single_visits_are_kept_for_a_while_and_say_no_more_than_they_may(
    start: Start, database: Database
) -> None:
    clock = VirtualClock()
    links = await start(settings=LinksSettings(visits_days=7), clock=clock)
    made = await links.create(URL, alias="x")
    async with listening(database, links) as listener:
        await visit(listener, "/x", user_agent=FIREFOX, referer="https://news.example/a?q=1")
        await visit(listener, "/x", user_agent=FIREFOX, sec_gpc="1")
    await drain(links)
    found, total = await links.counting.visits(VisitFilter(link_id=made.id), 0, 10)
    assert total == 2 and sorted(one.user_agent for one in found) == ["", FIREFOX]
    assert sorted(one.referrer for one in found) == ["", "https://news.example/a?q=1"]
    await clock.advance(8 * 86_400)
    await links.counting.sweep()
    assert (await links.counting.visits(VisitFilter(link_id=made.id), 0, 10))[1] == 0
    assert await links.counting.sums([f"link:{made.id}"]) == {f"link:{made.id}": (2, 0)}


async def test_addresses_are_cut_before_they_are_written(links: Links) -> None:
    written: list[bytes] = []

    class Spy:
        async def append_many(self, topic: str, records: Any) -> list[Any]:
            written.extend(value for _, value in records)
            return []

    noted = Clicks(Spy(), SystemClock())  # type: ignore[arg-type]
    noted.note(1, 0, "x", "click", "", "192.0.2.77", b"GET /x HTTP/1.1\r\nhost: a\r\ncookie: secret\r\n\r\n")
    noted.note(1, 0, "x", "click", "", "2001:db8:1:2:3::4", b"GET /x HTTP/1.1\r\nUser-Agent: \xff\r\n\r\n")
    await noted.flush()
    text = b"".join(written)
    assert b"192.0.2.0" in text and b"2001:db8:1::" in text
    assert b"192.0.2.77" not in text and b"2001:db8:1:2" not in text and b"secret" not in text
    assert network_of("rubbish") == "" and limit_key("2001:db8:1:2:3::4") == "2001:db8:1:2::/64"
    assert limit_key("::ffff:192.0.2.1") == limit_key("192.0.2.1") == "192.0.2.1"
    assert pseudonym(b"k", "192.0.2.1", "a") == pseudonym(b"k", "192.0.2.9", "a") != pseudonym(b"j", "192.0.2.1", "a")
    assert languages("de;q=0.3, en-US, x;;, fr;q=0, *;q=0.1") == ("en-us", "de")


async def test_the_largest_batch_fits_into_a_record_of_the_log(links: Links) -> None:
    wide = "\U0001f600"
    head = b"\r\nuser-agent: %b\r\nreferer: %b\r\naccept-language: %b" % ((b"\xff" * 9_000,) * 3)
    for _ in range(BATCH_CLICKS_MAX):
        links.clicks.note(1 << 60, 1 << 60, wide * 200, "invalid_short_url", "x" * 9_000, "2001:db8:ffff::1", head)
    await links.clicks.flush()
    assert links.clicks.waiting == 0
    await drain(links)
    assert (await links.counting.sums(["orphan"])) == {"orphan": (BATCH_CLICKS_MAX, 0)}


async def test_an_address_is_taken_from_trusted_proxies_before_it_is_cut() -> None:
    written: list[bytes] = []

    class Spy:
        async def append_many(self, topic: str, records: Any) -> list[Any]:
            written.extend(value for _, value in records)
            return []

    noted = Clicks(Spy(), SystemClock(), proxies=Proxies(["10.0.0.0/8"]))  # type: ignore[arg-type]
    noted.note(1, 0, "x", "click", "", "10.0.0.1", b"\r\nx-forwarded-for: 203.0.113.7, 198.51.100.7, 10.0.0.9\r\n")
    noted.note(1, 0, "x", "click", "", "192.0.2.1", b"\r\nx-forwarded-for: 203.0.113.7\r\n")
    await noted.flush()
    assert b"198.51.100.0" in written[0] and b"192.0.2.0" in written[0] and b"203.0.113.0" not in written[0]


async def test_a_full_ring_drops_and_counts_and_a_lost_log_makes_clicks_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clicks_room, "RING_CLICKS_MAX", 1000)
    monkeypatch.setattr(clicks_room, "WAITING_BATCHES_MAX", 3)
    sent: list[bytes] = []

    class Flaky:
        away = True

        async def append_many(self, topic: str, records: Any) -> list[Any]:
            if self.away:
                raise Unavailable("on purpose")
            sent.extend(value for _, value in records)
            return []

    log = Flaky()
    noted = Clicks(log, SystemClock())  # type: ignore[arg-type]
    for _ in range(1500):
        noted.note(1, 0, "x", "click", "", "", b"")
    assert (noted.noted, noted.dropped) == (1000, 500)
    with pytest.raises(Unavailable):
        await noted.flush()
    assert noted.dropped == 1500 - 3 * BATCH_CLICKS_MAX and noted.waiting == 3 * BATCH_CLICKS_MAX
    log.away = False
    await noted.flush()
    assert noted.waiting == 0 and len(sent) == 3


async def test_clicks_are_sent_within_100_ms_and_what_is_left_at_the_end(start: Start) -> None:
    clock = VirtualClock()
    links = await start(clock=clock)
    made = await links.create(URL)
    links.clicks.note(links.now_us(), 0, made.code, "click", "", "", b"")
    assert links.clicks.waiting == 1

    async def sent() -> bool:
        await clock.advance(0.1)
        return not links.clicks.waiting

    await until(sent)
    links.clicks.note(links.now_us(), 0, made.code, "click", "", "", b"")
    await links.clicks.stop()
    await drain(links)
    assert await links.counting.sums([f"link:{made.id}"]) == {f"link:{made.id}": (2, 2)}


def batches_of(code: str, number: int, each: int = 3) -> list[bytes]:
    clicks = [Click(5 * DAY, 0, code, user_agent=f"agent {n}", address="192.0.2.0") for n in range(each)]
    return [encode_batch(Batch("node", sequence, clicks)) for sequence in range(number)]


async def test_duplicate_and_reordered_batches_count_once(links: Links) -> None:
    made = await links.create(URL)
    wanted = batches_of(made.code, 20) * 3
    random.Random(7).shuffle(wanted)
    await links.clicks.log.append_many(TOPIC, [(b"node", one) for one in wanted])
    await drain(links)
    assert await links.counting.sums([f"link:{made.id}", "all"]) == {f"link:{made.id}": (60, 0), "all": (60, 0)}
    assert (await links.counting.visits(VisitFilter(link_id=made.id), 0, 1))[1] == 60


async def test_a_consumer_that_dies_at_any_step_leaves_exact_sums(links: Links, database: Database) -> None:
    """At each statement of the transaction in turn, and between the transactions of one delivery."""
    made = await links.create(URL, tags=("t",))
    await links.clicks.log.append_many(
        TOPIC, [(b"node", one) for one in batches_of(made.code, 8, each=BATCH_CLICKS_MAX)]
    )
    await links.counting.prepare()
    log: Any = links.clicks.log
    step = 0
    while await log.backlog("links.rollups", TOPIC) or step == 0:
        step += 1
        consumer = log.consumer("links.rollups", [TOPIC])
        try:
            await _fold_and_die(links, await anext(consumer), consumer, after_statements=step)
        except _Died:
            continue
        finally:
            await consumer.close()
    expected = 8 * BATCH_CLICKS_MAX
    assert step > 10
    assert set((await links.counting.sums([f"link:{made.id}", "all", "tag:t", "domain:0"])).values()) == {(expected, 0)}
    series = await links.stats("all", 5 * DAY, 6 * DAY, "browser")
    assert sum(point.clicks for point in series.points) == series.clicks == expected


class _Died(BaseException):
    pass


async def _fold_and_die(links: Links, batch: Any, consumer: Consumer, after_statements: int) -> None:
    left = after_statements
    inner = links.counting._fold

    def dying(connection: Any, *args: Any) -> Any:
        class Connection:
            def __getattr__(self, name: str) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    raise _DiedInside
                return getattr(connection, name)

        return inner(Connection(), *args)  # type: ignore[arg-type]

    links.counting._fold = dying  # type: ignore[method-assign,assignment]
    try:
        await links.counting.fold(batch, consumer)
    except _DiedInside:
        raise _Died from None
    finally:
        links.counting._fold = inner  # type: ignore[method-assign]


class _DiedInside(Exception):
    pass


async def test_a_year_of_a_busy_link_reads_one_row_a_day(links: Links, database: Database) -> None:
    made = await links.create(URL)
    days = [
        encode_batch(
            Batch("node", n, [Click(day * DAY + n, 0, made.code, user_agent=FIREFOX) for day in range(n % 2, 365, 2)])
        )
        for n in range(4)
    ]
    await links.clicks.log.append_many(TOPIC, [(b"node", one) for one in days])
    await drain(links)
    for by, points in (("day", 365), ("month", 12), ("browser", 1)):
        found = await links.stats(f"link:{made.id}", 0, 365 * DAY, by)  # type: ignore[arg-type]
        assert (found.clicks, len(found.points), found.visitors) == (730, points, 1)
    from mainspring.social.links import stats

    def rows(connection: Any) -> int:
        return len(connection.execute(stats.ROLLUPS, {"scope": f"link:{made.id}", "first": 0, "end": 365}).all())

    assert await database.read(rows) == 365


async def test_a_dimension_has_a_bounded_number_of_values(links: Links) -> None:
    made = await links.create(URL)
    flood = [Click(DAY, 0, made.code, referrer=f"https://r{n}.example/") for n in range(KEYS_MAX + 100)]
    parts = [flood[at : at + BATCH_CLICKS_MAX] for at in range(0, len(flood), BATCH_CLICKS_MAX)]
    await links.clicks.log.append_many(
        TOPIC, [(b"n", encode_batch(Batch("n", at, part))) for at, part in enumerate(parts)]
    )
    await drain(links)
    points = (await links.stats(f"link:{made.id}", DAY, 2 * DAY, "referrer")).points
    assert len(points) == KEYS_MAX + 1
    assert (points[0].key, points[0].clicks) == ("(other)", 100)


async def test_many_different_visitors_are_estimated_within_two_percent_or_so(links: Links) -> None:
    made = await links.create(URL)
    many = [
        Click(DAY, 0, made.code, user_agent=f"a{n % 50}", address=f"10.{n // 250}.{n % 250}.0") for n in range(5_000)
    ]
    parts = [many[at : at + BATCH_CLICKS_MAX] for at in range(0, len(many), BATCH_CLICKS_MAX)]
    await links.clicks.log.append_many(
        TOPIC, [(b"n", encode_batch(Batch("n", at, part))) for at, part in enumerate(parts)]
    )
    await drain(links)
    assert abs((await links.stats("all", DAY, 2 * DAY)).visitors - 5_000) < 250


async def test_each_fold_is_told_to_whoever_watches(start: Start) -> None:
    cache = MemoryCache(SystemClock())
    links = await start(settings=GENEROUS, cache=cache)
    made = await links.create(URL)
    async with cache.subscribe(LIVE) as messages, asyncio.timeout(30):
        links.clicks.note(links.now_us(), 0, made.code, "click", "", "", b"")
        links.clicks.note(links.now_us(), 0, "unknown", "invalid_short_url", "", "", b"")
        await drain(links)
        assert await anext(messages) == b'{"clicks":2,"links":{"%d":1}}' % made.id


AGENTS = st.sampled_from(["", FIREFOX, "Googlebot/2.1"])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), AGENTS), max_size=40))
@hypothesis_settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_sums_are_those_of_a_plain_count(tmp_path_factory: Any, clicks: list[tuple[str, int, str]]) -> None:
    from mainspring.core.database import SqliteDatabase
    from tests.social.links.conftest import prepare, started

    database = SqliteDatabase(tmp_path_factory.mktemp("db") / "test.db", floor_bytes=0, ballast_bytes=0)
    await database.start()
    try:
        await prepare(database)
        async with started(database) as links:
            made = {code: await links.create(URL, alias=code, tags=(code,)) for code in "ab"}
            noted = [Click(day * DAY, 0, code, user_agent=agent) for code, day, agent in clicks]
            await links.clicks.log.append_many(TOPIC, [(b"n", encode_batch(Batch("n", 1, noted)))])
            await drain(links)
            for code, link in made.items():
                for scope in (f"link:{link.id}", f"tag:{code}"):
                    series = await links.stats(scope, 0, 4 * DAY, "day")
                    mine = [(day, agent) for one, day, agent in clicks if one == code]
                    assert series.clicks == len(mine)
                    assert series.bots == sum(agent != FIREFOX for _, agent in mine)
                    assert len(series.points) == len({day for day, _ in mine})
    finally:
        await database.stop()


async def test_links_made_with_another_log_only_lack_the_view(start: Start, database: Database) -> None:
    class Other:
        def __init__(self, inner: OutboxLog) -> None:
            self.append_many = inner.append_many

    log: Log = Other(OutboxLog(database, SystemClock()))  # type: ignore[assignment,arg-type]
    links = await start(log=log)
    await links.add(NewLink(url=URL, alias="x"))
    assert await links.resolver.find(0, "x") == URL.encode()
    assert await links.resolver.find(0, "y") is None
