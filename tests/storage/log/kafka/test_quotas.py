"""Quotas: whose limit holds, and how long its client waits."""

import pytest

from mainspring.core.clock import VirtualClock
from mainspring.storage.log.kafka.cluster_state import Quota
from mainspring.storage.log.kafka.quotas import CONNECTION, PRODUCE, Quotas


def make(*limits: tuple[dict[str, str | None], float]) -> tuple[Quotas, VirtualClock]:
    clock = VirtualClock()
    quotas = Quotas(clock)
    quotas.set(Quota(tuple(entity.items()), {PRODUCE: value}) for entity, value in limits)
    return quotas, clock


def test_the_most_specific_limit_holds() -> None:
    limits: list[tuple[dict[str, str | None], float]] = [
        ({"user": "alice", "client-id": "app"}, 1),
        ({"user": "alice", "client-id": None}, 2),
        ({"user": "alice"}, 3),
        ({"user": None, "client-id": "app"}, 4),
        ({"user": None, "client-id": None}, 5),
        ({"user": None}, 6),
        ({"client-id": "app"}, 7),
        ({"client-id": None}, 8),
    ]
    cases = [("alice", "app"), ("alice", "x"), ("alice", "x"), ("bob", "app"), ("bob", "x"), ("bob", "x")]
    cases += [("bob", "app"), ("bob", "x")]
    for at, (user, client) in enumerate(cases):
        quotas, _ = make(*limits[at:])
        found = quotas.limit(PRODUCE, user, client)
        assert found is not None
        assert found[1] == at + 1
    quotas, _ = make()
    assert quotas.limit(PRODUCE, "bob", "x") is None


async def test_a_client_waits_until_it_is_level_again() -> None:
    quotas, clock = make(({"user": "alice"}, 1000))
    assert quotas.charge(PRODUCE, "User:alice", "app", 1000) == 0
    assert quotas.charge(PRODUCE, "User:alice", "app", 500) == pytest.approx(500, abs=2)
    assert quotas.charge(PRODUCE, "User:bob", "app", 10**9) == 0
    await clock.advance(0.5)
    assert quotas.charge(PRODUCE, "User:alice", "other", 0) == pytest.approx(0, abs=2)
    await clock.advance(1.0)
    assert quotas.charge(PRODUCE, "User:alice", "app", 1000) == 0


async def test_over_a_long_time_a_client_gets_its_rate_and_no_more() -> None:
    quotas, clock = make(({"client-id": "app"}, 10_000))
    sent = 0
    for _ in range(200):
        wait_ms = quotas.charge(PRODUCE, "User:alice", "app", 3000)
        sent += 3000
        await clock.advance(wait_ms / 1000)
    seconds = (clock.mono_ns()) / 1e9
    assert sent / seconds == pytest.approx(10_000, rel=0.1)


async def test_those_under_one_default_do_not_share_its_bucket() -> None:
    quotas, _ = make(({"user": None}, 1000))
    assert quotas.charge(PRODUCE, "User:alice", "a", 2000) > 0
    assert quotas.charge(PRODUCE, "User:bob", "a", 1000) == 0
    assert quotas.charge(PRODUCE, "User:alice", "b", 1) > 0


def test_new_connections_of_an_address_are_counted() -> None:
    quotas = Quotas(VirtualClock())
    quotas.set([Quota((("ip", None),), {CONNECTION: 2.0})])
    assert [quotas.connection_wait_ms("10.0.0.1") > 0 for _ in range(3)] == [False, False, True]
    assert quotas.connection_wait_ms("10.0.0.2") == 0
