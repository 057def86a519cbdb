"""What other code is promised of `Links`, embedded and on PostgreSQL."""

import asyncio

import msgspec
import pytest

from mainspring.core.accounts import Caller
from mainspring.core.clock import VirtualClock
from mainspring.core.once import Once
from mainspring.core.ports import Database
from mainspring.core.problems import Forbidden, Invalid, KeyReused, PreconditionFailed, Problem, Unauthenticated
from mainspring.primitives.limiter import QuotaExceeded
from mainspring.social.links import LinkEdit, Links, LinksSettings, NewLink
from mainspring.social.links.listing import Filter
from mainspring.social.links.model import AliasTaken, InvalidAlias, State, UnknownDomain, UnknownLink
from mainspring.social.links.service import TagTaken
from tests.social.links.conftest import GENEROUS, Start, prepare, started

URL = "https://example.com/some/where"
ANN = Caller(101, "ann", "token", frozenset({"links:read", "links:write"}), 1)
BOB = Caller(102, "bob", "token", frozenset({"links:read", "links:write"}), 2)


async def test_a_link_is_found_by_id_and_by_code_with_all_that_was_said_of_it(links: Links) -> None:
    made = await links.create(
        URL,
        title="Größe",
        notes="n",
        folder="f",
        tags=("A b", "a-b", "c"),
        valid_until="2099-01-01T00:00:00Z",
        max_visits=7,
    )
    assert len(made.code) == 7 and made.tags == ("a-b", "c") and made.visits_left == 7
    assert await links.get(made.id) == made == await links.named(made.code)
    assert links.domains.short_url(made) == f"http://127.0.0.1:8410/{made.code}"


async def test_of_many_racing_for_one_alias_exactly_one_gets_it(links: Links) -> None:
    results = await asyncio.gather(*(links.create(URL, alias="spring") for _ in range(50)), return_exceptions=True)
    assert sum(isinstance(one, AliasTaken) for one in results) == 49
    assert sum(not isinstance(one, BaseException) for one in results) == 1


async def test_a_deleted_links_code_is_gone_and_never_given_to_another(links: Links) -> None:
    made = await links.create(URL, alias="spring", tags=("t",))
    await links.delete(made.id)
    with pytest.raises(UnknownLink):
        await links.get(made.id)
    with pytest.raises(AliasTaken):
        await links.create(URL, alias="spring")
    assert await links.tags() == {}


@pytest.mark.parametrize("strategy", ["counter", "snowflake", "random", "hash"])
@pytest.mark.parametrize("alphabet", ["base62", "base58", "lower"])
async def test_no_strategy_gives_a_code_twice(start: Start, strategy: str, alphabet: str) -> None:
    links = await start(settings=LinksSettings(strategy=strategy, alphabet=alphabet))
    made = [one.code for one in await links.add_many([NewLink(url=URL)] * 300)]
    assert len(set(made)) == 300
    if alphabet == "lower":
        assert all(code == code.lower() for code in made)


async def test_two_nodes_lease_numbers_apart_and_a_dead_ones_are_skipped(database: Database) -> None:
    await prepare(database)
    plain = msgspec.structs.replace(GENEROUS, blocked_words=())  # a code that spelt one would be skipped
    async with started(database, plain) as one, started(database, plain) as two:
        made = [await node.create(URL) for _ in range(20) for node in (one, two)]
        first = one._issuer._permutations["base62"]
        numbers = sorted(first.inverse(_number(link.code)) for link in made)
        assert numbers == [*range(20), *range(1000, 1020)]
    async with started(database, plain) as three:
        assert three._issuer._permutations["base62"].inverse(_number((await three.create(URL)).code)) == 2000


async def test_when_a_counters_code_is_somebodys_alias_the_next_one_is_taken(links: Links) -> None:
    code = (await links._issuer.candidates(links.domains.default, URL))[0]
    links._issuer._spelt["base62"].appendleft(code)
    await links.create(URL, alias=code)
    assert (await links.create(URL)).code != code


async def test_blocked_words_are_in_no_code(start: Start) -> None:
    links = await start(settings=LinksSettings(strategy="random", alphabet="lower", blocked_words=("a", "e", "1")))
    made = [one.code for one in await links.add_many([NewLink(url=URL)] * 100)]
    assert not any(letter in code for code in made for letter in "ae1")


async def test_the_same_link_is_found_again_where_that_is_wanted(links: Links) -> None:
    first, new = await links.add_or_find(NewLink(url=URL, find_if_exists=True))
    assert new
    again, new = await links.add_or_find(NewLink(url=URL, find_if_exists=True))
    assert again == first and not new
    other, new = await links.add_or_find(NewLink(url=URL, tags=("x",), find_if_exists=True))
    assert new and other.id != first.id
    _, new = await links.add_or_find(NewLink(url=URL, find_if_exists=True), ANN)
    assert new
    many = await asyncio.gather(*(links.add(NewLink(url=URL + "2", find_if_exists=True)) for _ in range(20)))
    assert len({one.id for one in many}) == 1


async def test_an_idempotency_key_makes_one_link(links: Links) -> None:
    made = [await links.create(URL, once=Once("key", b"digest")) for _ in range(3)]
    assert len({one.id for one in made}) == 1
    with pytest.raises(KeyReused):
        await links.create(URL, once=Once("key", b"other"))


async def test_many_are_made_in_one_call_each_with_its_own_result(links: Links) -> None:
    await links.create(URL, alias="taken")
    wanted = [
        NewLink(url=URL),
        NewLink(url="javascript:x"),
        NewLink(url=URL, alias="taken"),
        NewLink(url=URL, alias="mine"),
    ]
    made, scheme, taken, mine = await links.add_many(wanted)
    assert made.target == URL and mine.code == "mine"
    assert (scheme.type, taken.type) == ("links/scheme-not-allowed", "links/alias-taken")
    with pytest.raises(Invalid):
        await links.add_many([])


async def test_an_edit_keeps_what_was_before(links: Links) -> None:
    made = await links.create(URL, title="one", tags=("a", "b"), max_visits=5)
    edited = await links.edit(made.id, LinkEdit(url=URL + "/2", title="two", tags=("b", "c"), max_visits=9), version=1)
    assert (edited.target, edited.title, edited.tags, edited.version) == (URL + "/2", "two", ("b", "c"), 2)
    assert (edited.max_visits, edited.visits_left) == (9, 9)
    (entry,) = await links.history(made.id)
    assert entry.version == 1 and entry.actor == "local"
    assert entry.before == {"target": URL, "title": "one", "tags": ["a", "b"], "max_visits": 5}
    assert await links.tags() == {"b": 1, "c": 1}
    with pytest.raises(PreconditionFailed):
        await links.edit(made.id, LinkEdit(title="three"), version=1)
    assert await links.edit(made.id, LinkEdit(title="two")) == edited


async def test_visits_already_spent_count_when_the_limit_changes(links: Links) -> None:
    made = await links.create(URL, max_visits=3)
    for _ in range(2):
        await links.spend_visit(made)
    assert (await links.edit(made.id, LinkEdit(max_visits=10))).visits_left == 8
    assert (await links.edit(made.id, LinkEdit(max_visits=1))).visits_left == 0
    assert (await links.edit(made.id, LinkEdit(max_visits=None))).visits_left is None


async def test_a_password_is_kept_as_a_hash_and_leaves_no_trace_in_the_history(links: Links) -> None:
    made = await links.create(URL, password="open sesame")
    assert made.password is not None and made.password.startswith("$argon2id$")
    await links.edit(made.id, LinkEdit(password=None))
    assert (await links.history(made.id))[0].before == {"password": None}


async def test_tags_are_renamed_and_deleted_wherever_they_are(links: Links) -> None:
    made = await links.add_many([NewLink(url=URL, tags=("old", "x"))] * 250)
    await links.rename_tag("old", "new")
    assert await links.tags() == {"new": 250, "x": 250}
    assert (await links.get(made[7].id)).tags == ("new", "x")
    with pytest.raises(TagTaken):
        await links.rename_tag("new", "x")
    await links.delete_tag("x")
    assert await links.tags() == {"new": 250}


async def test_accounts_see_and_change_only_their_own_links(links: Links) -> None:
    hers, his = await links.create(URL, by=ANN), await links.create(URL, by=BOB)
    assert [one.id for one in await links.find(Filter(), None, 10, ANN)] == [hers.id]
    for attempt in (links.get(his.id, ANN), links.edit(his.id, LinkEdit(title="x"), ANN), links.delete(his.id, ANN)):
        with pytest.raises(UnknownLink):
            await attempt
    assert len(await links.find(Filter(), None, 10)) == 2
    with pytest.raises(Forbidden):
        await links.edit(hers.id, LinkEdit(state="legal"), ANN)
    assert (await links.edit(hers.id, LinkEdit(state="disabled"), ANN)).state is State.disabled
    with pytest.raises(Forbidden):
        await links.edit(hers.id, LinkEdit(state="active"), ANN)
    given = await links.edit(hers.id, LinkEdit(owner=102), ANN)
    assert given.owner == 102 and (await links.get(hers.id, BOB)).id == hers.id


FOUND = {
    "text": (Filter(text="NEEDLE"), "b"),
    "percent": (Filter(text="100%_"), "d"),
    "any tag": (Filter(tags=("t1", "t2")), "abc"),
    "every tag": (Filter(tags=("t1", "t2"), every_tag=True), "b"),
    "without": (Filter(without=("t1",)), "cdef"),
    "without every": (Filter(without=("t1", "t2"), without_every=True), "acdef"),
    "folder": (Filter(folder="box"), "c"),
    "archived": (Filter(archived=True), "e"),
    "unspent": (Filter(unspent=True), "abcde"),
    "valid": (Filter(valid_at_us=1_900_000_000_000_000), "acdef"),
    "together": (Filter(tags=("t2",), text="example", archived=False), "bc"),
    "none": (Filter(text="nothing like this"), ""),
}


async def test_links_are_found_by_every_filter(links: Links) -> None:
    await links.create(URL, alias="a", tags=("t1",))
    await links.create(URL, alias="b", tags=("t1", "t2"), title="a needle here", valid_until="2026-01-01T00:00:00Z")
    await links.create(URL, alias="c", tags=("t2",), folder="box")
    await links.create(URL + "?x=100%_", alias="d")
    archived = await links.create(URL, alias="e")
    await links.edit(archived.id, LinkEdit(archived=True))
    spent = await links.create(URL, alias="f", max_visits=1)
    await links.spend_visit(spent)
    for name, (wanted, codes) in FOUND.items():
        assert "".join(sorted(one.code for one in await links.find(wanted, None, 10))) == codes, name
        page, total = await links.page(wanted, "code", False, 0, 10)
        assert ("".join(one.code for one in page), total) == (codes, len(codes)), name
    first = await links.find(Filter(), None, 2)
    assert [one.code for one in first] == ["f", "e"]
    assert [one.code for one in await links.find(Filter(), first[-1].id, 2)] == ["d", "c"]
    assert [one.code for one in (await links.page(Filter(), "created", True, 1, 2))[0]] == ["e", "d"]


async def test_domains_have_codes_of_their_own(links: Links) -> None:
    await links.domains.add("short.example", "random", "lower")
    here = await links.create(URL, alias="Same")
    there = await links.create(URL, alias="Same", domain="short.example")
    assert (here.code, there.code) == ("Same", "same")
    assert links.domains.short_url(there) == "http://short.example/same"
    assert (await links.named("SAME", "short.example")).id == there.id
    with pytest.raises(UnknownDomain):
        await links.create(URL, domain="other.example")
    with pytest.raises(Problem) as caught:
        await links.create("https://short.example/same")
    assert caught.value.type == "links/would-loop"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"redirect": 303}, "/redirect"),
        ({"valid_since": "soon"}, "/valid_since"),
        ({"rules": [{"when": [{"kind": "ip", "value": "x"}], "target": "https://example.com"}]}, "/rules/0/when/0"),
    ],
)
async def test_what_cannot_be_stored_is_refused_with_its_place(
    links: Links, fields: dict[str, object], pointer: str
) -> None:
    import msgspec

    with pytest.raises(Invalid) as caught:
        await links.add(msgspec.convert({"url": URL, **fields}, NewLink))
    assert caught.value.more["pointer"] == pointer


async def test_rules_may_not_lead_where_a_link_may_not(links: Links) -> None:
    import msgspec

    for target in ("javascript:x", "http://127.0.0.1:8410/x", "http://10.0.0.1/"):
        with pytest.raises(Problem) as caught:
            await links.add(msgspec.convert({"url": URL, "rules": [{"target": target}]}, NewLink))
        assert caught.value.status == 422


async def test_homoglyphs_are_refused_where_unicode_is_allowed(start: Start) -> None:
    links = await start(settings=LinksSettings(unicode_aliases=True))
    assert (await links.create(URL, alias="größe")).code == "größe"
    with pytest.raises(InvalidAlias):
        await links.create(URL, alias="pаypal")
    assert await links.is_free("straße") and not await links.is_free("größe")


async def test_creation_is_limited_by_address_and_by_token(start: Start) -> None:
    clock = VirtualClock()
    settings = LinksSettings(anonymous=True, anonymous_per_minute=3, token_per_minute=5)
    links = await start(settings=settings, clock=clock)
    nobody = Caller(None, "anonymous", "anonymous", frozenset())

    async def made(by: Caller, addresses: list[str]) -> int:
        results = await asyncio.gather(
            *(links.add(NewLink(url=URL), by, address=one) for one in addresses), return_exceptions=True
        )
        assert all(isinstance(one, QuotaExceeded) for one in results if isinstance(one, BaseException))
        return sum(not isinstance(one, BaseException) for one in results)

    assert await made(nobody, ["192.0.2.1"] * 10) == 3
    assert await made(nobody, [f"2001:db8:0:1::{n}" for n in range(10)]) == 3
    assert await made(nobody, [f"2001:db8:0:{n}::1" for n in range(2, 12)]) == 10
    assert await made(ANN, ["192.0.2.1"] * 10) == 5
    await clock.advance(60)
    assert await made(nobody, ["192.0.2.1"] * 10) == 3


async def test_nobody_makes_links_unless_that_is_allowed(links: Links) -> None:
    with pytest.raises(Unauthenticated):
        await links.add(NewLink(url=URL), Caller(None, "anonymous", "anonymous", frozenset()), address="192.0.2.1")


def _number(code: str) -> int:
    from mainspring.social.links.codes import ALPHABETS

    value = 0
    for letter in code:
        value = value * 62 + ALPHABETS["base62"].index(letter)
    return value
