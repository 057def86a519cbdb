"""What an operator asks of groups and transactions first, read when somebody scrapes and never before.

Whoever makes up names of groups must not fill memory, nor hold the loop at a scrape: so many positions are looked at, and the
greatest lags among them have a line of their own. `log_group_lags_unlisted` says how many have none: 0 where all are told.
Positions that a consumer keeps in the database are not here: `GET /api/log/groups/{g}` knows them.
"""

from collections import Counter
from collections.abc import Mapping
from heapq import nlargest
from itertools import islice
from typing import TYPE_CHECKING

from mainspring.core.telemetry.instruments import Family, Gauge
from mainspring.core.telemetry.metrics import Metrics
from mainspring.storage.log.lag import state_of
from mainspring.storage.log.transaction_machine import State, Transaction

if TYPE_CHECKING:
    from mainspring.storage.log.groups.service import Groups
    from mainspring.storage.log.transactions import Transactions

GROUPS_LISTED = 200
LAGS_LISTED = 500
POSITIONS_READ_MAX = 20_000
NAME_LETTERS_MAX = 200

Values = Mapping[tuple[str, ...], float]


def observe(metrics: Metrics, groups: "Groups", transactions: "Transactions") -> None:
    """Follows both coordinators of a node; it opens nothing that is not open."""
    counts = metrics.gauge("log_groups", "Groups by kind and state", ("kind", "state"))
    members = metrics.gauge("log_group_members", "Members of a group, for the largest groups", ("group",))
    lags = metrics.gauge(
        "log_group_lag", "Records ahead of a group's position, for the greatest lags", ("group", "topic", "partition")
    )
    unlisted = metrics.gauge("log_group_lags_unlisted", "Positions of groups whose lag has no line of its own")
    hanging = metrics.gauge(
        "log_last_stable_lag", "Records that the open transactions hold back, where most", ("topic", "partition")
    )

    def read() -> None:
        every = groups.known.groups
        show(counts, Counter((one.kind, state_of(one)) for one in every.values()))
        largest = nlargest(GROUPS_LISTED, every.values(), key=lambda one: len(one.members))
        show(members, {(_cut(one.id),): len(one.members) for one in largest})
        show(lags, dict(_greatest_lags(groups)))
        unlisted.set(groups.known.offsets.count() - len(lags.children))
        show(hanging, dict(_held_back(transactions)))

    metrics.before_scrape(read)
    for name, help, count in (
        ("log_group_rebalances", "Generations and epochs of groups that began", lambda: groups.rebalances),
        ("log_transactions_committed", "Transactions that committed", lambda: transactions.committed),
        ("log_transactions_aborted", "Transactions that aborted", lambda: transactions.aborted),
        ("log_transactions_timed_out", "Transactions that ran out of their time", lambda: transactions.timed_out),
    ):
        metrics.counter(name, help).follow(count)
    for name, help, sample in (
        ("log_group_positions", "Positions of groups", lambda: groups.known.offsets.count()),
        ("log_share_sessions", "Open sessions of share groups' members", lambda: groups.shares.session_count),
        ("log_share_records_in_flight", "Records that share groups hold or have given out", groups.shares.in_flight),
        ("log_transactional_ids", "Transactional ids that are remembered", lambda: len(transactions.known)),
        ("log_transactions_open", "Transactions that are open or being ended", lambda: len(_open(transactions))),
        ("log_transactions_open_seconds", "Age of the oldest open transaction", lambda: _oldest_s(transactions)),
    ):
        metrics.gauge(name, help, sample=sample)


def show(family: Family[Gauge], values: Values) -> None:
    """Makes the family's children these and no others."""
    for labels in [one for one in family.children if one not in values]:
        family.remove(*labels)
    for labels, value in values.items():
        family.labels(*labels).set(value)


def _greatest_lags(groups: "Groups") -> list[tuple[tuple[str, str, str], int]]:
    topics = groups.engine.topics
    found: list[tuple[tuple[str, str, str], int]] = []
    for group, (topic, index), offset in islice(groups.known.offsets.positions(), POSITIONS_READ_MAX):
        known = topics.get(topic)
        if known is None or index >= len(known.partitions):
            continue
        partition = known.partitions[index]
        lag = max(0, partition.high_watermark - max(offset.offset, partition.log_start))
        found.append(((_cut(group), topic, str(index)), lag))
    return nlargest(LAGS_LISTED, found, key=lambda one: one[1])


def _held_back(transactions: "Transactions") -> list[tuple[tuple[str, str], int]]:
    found: dict[tuple[str, str], int] = {}
    for one in _open(transactions):
        for topic, index in one.slots:
            known = transactions.engine.topics.get(topic)
            if known is not None and index < len(known.partitions):
                partition = known.partitions[index]
                found[topic, str(index)] = partition.high_watermark - partition.last_stable
    return nlargest(LAGS_LISTED, found.items(), key=lambda one: one[1])


def _open(transactions: "Transactions") -> list[Transaction]:
    return [one for one in transactions.known.values() if one.state is State.ONGOING or one.state.prepared]


def _oldest_s(transactions: "Transactions") -> float:
    started_ms = min((one.started_ms for one in _open(transactions) if one.started_ms >= 0), default=None)
    return 0.0 if started_ms is None else max(0.0, transactions.clock.wall_ns() / 1e9 - started_ms / 1_000)


def _cut(name: str) -> str:
    return name if len(name) <= NAME_LETTERS_MAX else f"{name[:NAME_LETTERS_MAX]}…"
