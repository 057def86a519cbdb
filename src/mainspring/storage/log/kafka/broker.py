"""What every handler stands on: the engine, the coordinators, and who may do what. One per node."""

from random import Random
from typing import TYPE_CHECKING, Any

from mainspring.core.clock import Clock
from mainspring.storage.log.kafka.settings import KafkaSettings

if TYPE_CHECKING:
    from mainspring.storage.log.engine import Engine


class Broker:
    """`groups`, `shares` and `transactions` are the coordinators, whose handlers alone know their faces."""

    def __init__(
        self,
        engine: "Engine",
        clock: Clock,
        *,
        settings: KafkaSettings | None = None,
        groups: Any = None,
        shares: Any = None,
        transactions: Any = None,
        random: Random | None = None,
    ) -> None:
        self.engine = engine
        self.clock = clock
        self.settings = settings or KafkaSettings()
        self.groups = groups
        self.shares = shares
        self.transactions = transactions
        self.random = random or Random()
