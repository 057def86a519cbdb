"""The server's assignors as properties."""

from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.storage.log.groups.assignors import Wish, ranged, simple, uniform

TOPICS = [UUID(int=number) for number in range(1, 5)]
shapes = st.dictionaries(st.sampled_from(TOPICS), st.integers(0, 7), min_size=1)
wishes = st.dictionaries(
    st.sampled_from("abcdef"),
    st.frozensets(st.sampled_from(TOPICS), min_size=1).map(lambda topics: Wish(topics, "")),
    min_size=1,
)
alike = st.frozensets(st.sampled_from("abcdef"), min_size=1).map(
    lambda names: dict.fromkeys(names, Wish(frozenset(TOPICS), ""))
)


def loads(assignment):
    return {name: sum(map(len, partitions.values())) for name, partitions in assignment.items()}


def check(members, shape, assignment):
    """Every partition that somebody wants is one member's, who wants it."""
    given_out = [
        (topic, number)
        for name, partitions in assignment.items()
        for topic, numbers in partitions.items()
        for number in numbers
        if topic in members[name].topics
    ]
    wanted = {topic for wish in members.values() for topic in wish.topics} & shape.keys()
    assert sorted(given_out) == sorted((topic, number) for topic in wanted for number in range(shape[topic]))
    assert assignment.keys() == members.keys()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(wishes, shapes, st.data())
def test_uniform_gives_every_partition_to_one_member_that_wants_it_whatever_was_before(members, shape, data):
    before = uniform(data.draw(wishes), data.draw(shapes), {})
    check(members, shape, uniform(members, shape, before))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(alike, alike, shapes)
def test_uniform_balances_to_within_one_and_moves_no_more_than_it_must(old, new, shape):
    before = uniform(old, shape, {})
    after = uniform(new, shape, before)
    counts = loads(after).values()
    assert max(counts) - min(counts) <= 1
    total, share = sum(counts), sum(counts) // len(new)
    spare = total - share * len(new)
    kept = sum(
        len(numbers & after[name].get(topic, frozenset()))
        for name in new
        for topic, numbers in before.get(name, {}).items()
    )
    best = sorted((loads(before).get(name, 0) for name in new), reverse=True)
    assert kept == sum(min(load, share + (place < spare)) for place, load in enumerate(best))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(wishes, shapes)
def test_range_gives_runs(members, shape):
    assignment = ranged(members, shape, {})
    check(members, shape, assignment)
    for partitions in assignment.values():
        for numbers in partitions.values():
            assert max(numbers) - min(numbers) + 1 == len(numbers)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(wishes, shapes)
def test_simple_leaves_no_partition_unread_and_no_member_idle(members, shape):
    assignment = simple(members, shape, {})
    for topic, count in shape.items():
        takers = [name for name, wish in members.items() if topic in wish.topics]
        read = [number for name in takers for number in assignment[name].get(topic, ())]
        if takers and count:
            assert set(read) == set(range(count))
            assert all(assignment[name].get(topic) for name in takers)
