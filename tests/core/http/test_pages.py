"""A cursor leads on from where a page ended, and only within the query it came from."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.http import Routes
from mainspring.core.http.pages import Cursors, InvalidCursor, Page, PageQuery
from tests.asgi import call


class Place(msgspec.Struct, array_like=True, frozen=True):
    created_us: int
    id: int


CURSORS = Cursors("links.by-age", Place)


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**63 - 1), st.text(), st.lists(st.text()))
def test_a_cursor_gives_back_its_place_for_its_own_query_alone(at: int, id: int, term: str, tags: list[str]) -> None:
    cursor = CURSORS.seal(Place(at, id), term, tags)
    assert CURSORS.open(cursor, term, tags) == Place(at, id)
    for other in ((f"{term}x", tags), (term, [*tags, "x"]), (term,), (tags, term)):
        with pytest.raises(InvalidCursor):
            CURSORS.open(cursor, *other)


def test_a_cursor_of_another_list_version_or_position_is_refused() -> None:
    cursor = CURSORS.seal(Place(1, 2), "term")
    for other in (
        Cursors("links.by-name", Place),
        Cursors("links.by-age", Place, version=2),
        Cursors("links.by-age", int),
    ):
        with pytest.raises(InvalidCursor):
            other.open(cursor, "term")
    assert CURSORS.open(None, "term") is None


@settings(deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: data.decode("latin-1")))
def test_no_text_but_a_cursor_is_taken_for_one(text: str) -> None:
    with pytest.raises(InvalidCursor):
        CURSORS.open(text)


@settings(deadline=None)
@given(st.data())
def test_a_cursor_with_a_changed_letter_never_opens_as_another_query(data: st.DataObject) -> None:
    cursor = CURSORS.seal(Place(5, 6), "term")
    position = data.draw(st.integers(0, len(cursor) - 1))
    letter = data.draw(st.sampled_from("ABCxyz019-_=!\n é"))
    changed = cursor[:position] + letter + cursor[position + 1 :]
    try:
        place = CURSORS.open(changed, "term")
    except InvalidCursor:
        return
    assert isinstance(place, Place)


@pytest.mark.parametrize("forged", [(2**63, 1), (1, 2**64 - 1)])
def test_a_forged_cursor_never_brings_what_a_database_cannot_hold(forged: tuple[int, int]) -> None:
    with pytest.raises(InvalidCursor):
        CURSORS.open(CURSORS.seal(Place(*forged)))
    names: Cursors[str] = Cursors("names", str)
    with pytest.raises(InvalidCursor):
        names.open(names.seal("a\0b"))


ITEMS = [{"id": number} for number in range(7)]
routes = Routes("items")


@routes.get("/", public=True)
async def listing(query: PageQuery) -> Page[dict[str, int]]:
    cursors: Cursors[int] = Cursors("items", int)
    after = cursors.open(query.cursor)
    found = [item for item in ITEMS if after is None or item["id"] > after]
    return cursors.page(found[: query.limit + 1], query.limit, lambda item: item["id"])


@settings(deadline=None)
@given(st.integers(1, 10))
async def test_pages_together_are_the_whole_list_once(limit: int) -> None:
    app = routes.application({}, None)
    seen: list[Any] = []
    target = f"/api/items/?limit={limit}"
    while True:
        page = (await call(app, "GET", target)).json()
        assert 0 < len(page["items"]) <= limit
        seen += page["items"]
        if page["next"] is None:
            break
        target = f"/api/items/?limit={limit}&cursor={page['next']}"
    assert seen == ITEMS


async def test_a_wrong_cursor_is_a_bad_request_that_says_so() -> None:
    app = routes.application({}, None)
    for cursor in ("x", CURSORS.seal(Place(1, 2)), "%00"):
        answer = await call(app, "GET", f"/api/items/?cursor={cursor}")
        assert (answer.status, answer.json()["type"]) == (400, "/problems/core/invalid-cursor")
        assert answer.json()["pointer"] == "/query/cursor"
