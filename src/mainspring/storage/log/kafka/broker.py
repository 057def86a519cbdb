"""What every handler stands on: the engine, the coordinators, and who may do what. One per node."""

from random import Random
from typing import TYPE_CHECKING, Any

from mainspring.core.clock import Clock
from mainspring.core.telemetry import Metrics
from mainspring.storage.log.kafka.broker_configs import CONNECTIONS, CONNECTIONS_PER_IP
from mainspring.storage.log.kafka.cluster_state import ClusterFile, ClusterState
from mainspring.storage.log.kafka.dynamic_configs import act, held
from mainspring.storage.log.kafka.fetch_sessions import FetchSessions
from mainspring.storage.log.kafka.produce_single import Shapes
from mainspring.storage.log.kafka.quotas import Quotas
from mainspring.storage.log.kafka.security import FindToken, Security
from mainspring.storage.log.kafka.settings import KafkaSettings
from mainspring.storage.log.kafka.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mainspring.storage.log.engine import Engine
    from mainspring.storage.log.kafka.registry import ApiKey
    from mainspring.storage.log.kafka.session import Session


class Broker:
    """`state_file` is where the door keeps what is its own. `groups`, `shares` and `transactions` are the coordinators, whose
    handlers alone know their faces."""

    def __init__(
        self,
        engine: "Engine",
        clock: Clock,
        state_file: "Path",
        *,
        settings: KafkaSettings | None = None,
        directories: "Sequence[Path]" = (),
        groups: Any = None,
        shares: Any = None,
        transactions: Any = None,
        find_token: FindToken | None = None,
        metrics: Metrics | None = None,
        random: Random | None = None,
    ) -> None:
        self.engine = engine
        self.clock = clock
        self.settings = settings or KafkaSettings()
        self.directories = list(directories) or [state_file.parent]
        self.groups = groups
        self.shares = shares
        self.transactions = transactions
        self.random = random or Random()
        self.metrics = metrics or Metrics()
        self.state = ClusterFile(state_file)
        self.security = Security(self.state, self.settings, find_token)
        self.quotas = Quotas(clock)
        self.fetch_sessions = FetchSessions(clock, self.random, self.settings.fetch_sessions_max)
        self.produce_shapes: Shapes = {}
        self.connections_max = self.connections_max_per_ip = 0
        self.state.watch(self._take)
        self.telemetry = Telemetry(self.metrics)
        self.fetched_bytes = 0
        self.failed_logins = self.metrics.counter("log_kafka_logins_failed", "Logins that were refused")
        self._requests = self.metrics.counter("log_kafka_requests", "Requests by their key", ("key",))
        for name, help, sample in (
            ("log_kafka_fetched_bytes", "Bytes of batches given to clients", lambda: self.fetched_bytes),
            ("log_kafka_throttled", "Requests whose client was told to wait by a quota", lambda: self.quotas.throttled),
            (
                "log_kafka_throttle_seconds",
                "Time that clients were told to wait by quotas",
                lambda: self.quotas.throttled_ms / 1000,
            ),
        ):
            self.metrics.counter(name, help).follow(sample)
        self._counts: dict[int, Any] = {}

    def _take(self, state: ClusterState) -> None:
        """Lets what is stored hold."""
        self.quotas.set(state.quotas)
        act(state, self.engine, self.groups)
        told = held(state, self.engine.node_id)
        self.connections_max = int(told.get(CONNECTIONS, self.settings.connections_max))
        self.connections_max_per_ip = int(told.get(CONNECTIONS_PER_IP, self.settings.connections_max_per_ip))

    def counted(self, key: "ApiKey") -> None:
        """Counts a request."""
        child = self._counts.get(key)
        if child is None:
            child = self._counts[key] = self._requests.labels(key.name.lower())
        child.inc()

    def allows(self, session: "Session", operation: int, resource: int, name: str) -> bool:
        """Whether a client may do `operation` to a resource (`acls.Operation`, `acls.Resource`)."""
        return self.security.allows(session, operation, resource, name)
