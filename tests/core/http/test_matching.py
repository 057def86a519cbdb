"""A path finds the route that a plain reading of the rules finds, however many routes there are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.http.matching import Matcher, names_of

WORDS = ["a", "b", "links", ""]
literal = st.sampled_from(["a", "b", "links", ""])
template = st.builds(
    lambda segments, rest: "/" + "/".join([*segments, *(["{rest:path}"] if rest else [])]),
    st.lists(st.one_of(literal, st.just("{}")), min_size=1, max_size=4),
    st.booleans(),
).map(lambda text: number_names(text))
path = st.lists(st.sampled_from([*WORDS, "x", "7"]), min_size=1, max_size=5).map(
    lambda segments: "/" + "/".join(segments)
)


def number_names(text: str) -> str:
    """`/{}/{}` as `/{n0}/{n1}`: names must differ within a template."""
    for number in range(text.count("{}")):
        text = text.replace("{}", f"{{n{number}}}", 1)
    return text


def plain_match(template: str, path: str) -> list[tuple[int, str]] | None:
    """What the rules say of one template: each segment's rank (0 literal, 1 name, 2 rest) and value, or None."""
    ranks = []
    wanted, given_segments = template.split("/")[1:], path.split("/")[1:]
    for position, segment in enumerate(wanted):
        if position >= len(given_segments):
            return None
        if segment.endswith(":path}"):
            return [*ranks, (2, "/".join(given_segments[position:]))]
        if segment.startswith("{"):
            if not given_segments[position]:
                return None
            ranks.append((1, given_segments[position]))
        elif segment == given_segments[position]:
            ranks.append((0, segment))
        else:
            return None
    return ranks if len(wanted) == len(given_segments) else None


def shape(template: str) -> str:
    return "/".join(
        "{:path}" if s.endswith(":path}") else "{}" if s.startswith("{") else s for s in template.split("/")
    )


@settings(deadline=None)
@given(st.lists(template, max_size=12, unique_by=shape), st.lists(path, min_size=1, max_size=20))
def test_every_path_finds_the_template_that_a_plain_search_finds(templates: list[str], paths: list[str]) -> None:
    matcher: Matcher[str] = Matcher()
    for each in templates:
        matcher.add(each, each)
    for each in paths:
        fitting = {found: matched for found in templates if (matched := plain_match(found, each)) is not None}
        expected = min(fitting, key=lambda found: [rank for rank, _ in fitting[found]], default=None)
        if expected is None:
            assert matcher.match(each) is None
        else:
            assert matcher.match(each) == (expected, [value for rank, value in fitting[expected] if rank])


def test_a_literal_wins_over_a_name_and_gives_way_where_it_leads_nowhere() -> None:
    matcher: Matcher[str] = Matcher()
    for each in ("/links/{id}", "/links/bulk", "/links/{id}/stats", "/{system}/bulk/history", "/files/{rest:path}"):
        matcher.add(each, each)
    assert matcher.match("/links/bulk") == ("/links/bulk", [])
    assert matcher.match("/links/bulk/stats") == ("/links/{id}/stats", ["bulk"])
    assert matcher.match("/links/bulk/history") == ("/{system}/bulk/history", ["links"])
    assert matcher.match("/files/a//b/") == ("/files/{rest:path}", ["a//b/"])
    assert matcher.match("/files") is None
    assert matcher.match("/links/") is None
    assert matcher.match("/Links/bulk") is None


@pytest.mark.parametrize("bad", ["links", "/a{id}", "/{id", "/{Id}", "/{id}/{id}", "/{rest:path}/more", "/{id:int}"])
def test_a_malformed_template_is_refused_when_it_is_added(bad: str) -> None:
    with pytest.raises(ValueError):
        Matcher[str]().add(bad, "")


def test_two_templates_for_exactly_the_same_paths_are_refused() -> None:
    matcher: Matcher[str] = Matcher()
    matcher.add("/links/{id}/stats", "one")
    assert matcher.get("/links/{code}/stats") == "one"
    with pytest.raises(ValueError, match="two routes"):
        matcher.add("/links/{code}/stats", "other")


def test_names_are_told_from_the_left() -> None:
    assert names_of("/a/{b}/c/{d}/{e:path}") == ("b", "d", "e")
