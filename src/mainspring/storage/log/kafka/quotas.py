"""Client quotas: bytes in, bytes out, and time spent, each per second, for users and clients.

As in Kafka the most specific limit holds: user with client id, user, client id, each before its default. What goes over is not
refused: the answer says for how long the client should wait, and the connection is not read for as long. Each limit is a bucket
that holds one second's worth and may be overdrawn; the wait is until it is level again.
"""

from collections import OrderedDict
from collections.abc import Iterable

from mainspring.core.clock import Clock
from mainspring.storage.log.kafka.cluster_state import Quota

PRODUCE, FETCH, REQUEST = "producer_byte_rate", "consumer_byte_rate", "request_percentage"
MUTATION, CONNECTION = "controller_mutation_rate", "connection_creation_rate"
KEYS = (PRODUCE, FETCH, REQUEST, MUTATION)
WAIT_MS_MAX = 30_000
_BUCKETS_MAX = 10_000

Entity = tuple[tuple[str, str | None], ...]


class Quotas:
    """`set` replaces all limits; `charge` counts and gives the milliseconds to wait."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limits: dict[str, dict[Entity, float]] = {}
        self.limited = False
        self.throttled = self.throttled_ms = 0
        self._buckets: OrderedDict[tuple[str, Entity, str, str], list[float]] = OrderedDict()

    def set(self, quotas: Iterable[Quota]) -> None:
        limits: dict[str, dict[Entity, float]] = {}
        for quota in quotas:
            for key, value in quota.values.items():
                limits.setdefault(key, {})[tuple(sorted(quota.entity))] = value
        self._limits = limits
        self.limited = bool(limits)
        self._buckets.clear()

    def limit(self, key: str, user: str, client_id: str) -> tuple[Entity, float] | None:
        """The limit that holds, and whose it is: all that fall under one default share nothing but its value."""
        limits = self._limits.get(key)
        if limits is None:
            return None
        for entity in _precedence(user, client_id):
            if entity in limits:
                return entity, limits[entity]
        return None

    def charge(self, key: str, principal: str, client_id: str | None, amount: float) -> int:
        """Counts `amount` (bytes, or percents of one core's second) and gives the milliseconds to wait, mostly 0."""
        if key not in self._limits:
            return 0
        user, client = principal.removeprefix("User:"), client_id or ""
        found = self.limit(key, user, client)
        if found is None:
            return 0
        entity, per_second = found
        return self._take((key, entity, user, client), per_second, amount)

    def connection_wait_ms(self, ip: str) -> int:
        """Counts a new connection from `ip`; how long it should wait before it is served."""
        limits = self._limits.get(CONNECTION)
        if limits is None:
            return 0
        for entity in ((("ip", ip),), (("ip", None),)):
            if entity in limits:
                return self._take((CONNECTION, entity, ip, ""), limits[entity], 1)
        return 0

    def _take(self, bucket: tuple[str, Entity, str, str], per_second: float, amount: float) -> int:
        now_s = self._clock.mono_ns() / 1e9
        kinds = {kind for kind, _ in bucket[1]}
        # A user's quota is shared by its clients, and a client's by its users.
        key = (
            bucket[0],
            bucket[1],
            bucket[2] if kinds != {"client-id"} else "",
            bucket[3] if "client-id" in kinds else "",
        )
        held = self._buckets.get(key)
        if held is None:
            held = self._buckets[key] = [per_second, now_s]
            if len(self._buckets) > _BUCKETS_MAX:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        level = min(per_second, held[0] + (now_s - held[1]) * per_second) - amount
        held[0], held[1] = level, now_s
        if level >= 0:
            return 0
        wait_ms = min(WAIT_MS_MAX, int(-level / per_second * 1000) + 1) if per_second > 0 else WAIT_MS_MAX
        self.throttled += 1
        self.throttled_ms += wait_ms
        return wait_ms


def _precedence(user: str, client: str) -> Iterable[Entity]:
    for one in (user, None):
        for other in (client, None):
            yield (("client-id", other), ("user", one))
        yield (("user", one),)
    yield (("client-id", client),)
    yield (("client-id", None),)
