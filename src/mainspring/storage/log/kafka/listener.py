"""What the door opens for Kafka clients: a protocol factory over one broker, and the count of its connections."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Final

from mainspring.core.accounts.service import Accounts
from mainspring.core.http.request import Message, Request
from mainspring.core.problems import Unauthenticated
from mainspring.storage.log.kafka.acls import Operation
from mainspring.storage.log.kafka.broker import Broker
from mainspring.storage.log.kafka.connection import Connection
from mainspring.storage.log.kafka.frames import SHARED_BYTES
from mainspring.storage.log.kafka.security import FindToken, Token
from mainspring.storage.log.kafka.users import take_in

SWEEP_S: Final = 30.0
OPERATIONS_BY_SCOPE: Final = {
    "log:read": frozenset({Operation.READ, Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS}),
    "log:write": frozenset({Operation.WRITE, Operation.CREATE, Operation.IDEMPOTENT_WRITE}),
    "log:admin": frozenset({Operation.DELETE, Operation.ALTER, Operation.ALTER_CONFIGS, Operation.CLUSTER_ACTION}),
}
"""What a token must hold for what the access lists may then allow."""


class Listener:
    """Makes the protocol of each accepted connection. There are at most `connections_max`, and `connections_max_per_ip`
    of an address; a client that is silent for `connections_max_idle_ms` is cut off."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._shared = memoryview(bytearray(SHARED_BYTES))
        self._open: set[Connection] = set()
        self._by_address: Counter[str] = Counter()
        self._sweep: asyncio.TimerHandle | None = None
        self._refused = broker.metrics.counter(
            "log_kafka_connections_refused", "Connections over the limit, of an address or of all"
        )
        broker.metrics.gauge("log_kafka_connections", "Open connections of clients", sample=lambda: len(self._open))

    def __call__(self) -> Connection:
        return Connection(self._broker, self, self._shared)

    def enter(self, connection: Connection, address: str) -> bool:
        """Whether there is room for one more from this address."""
        broker = self._broker
        if self._by_address[address] >= broker.connections_max_per_ip or len(self._open) >= broker.connections_max:
            self._refused.inc()
            return False
        self._by_address[address] += 1
        self._open.add(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._look_after)
        return True

    def leave(self, connection: Connection, address: str) -> None:
        if connection not in self._open:
            return
        self._open.discard(connection)
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
        if not self._open and self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _look_after(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._look_after)
        since_ns = self._broker.clock.mono_ns() - self._broker.settings.connections_max_idle_ms * 1_000_000
        for connection in list(self._open):
            connection.look_after(since_ns)


async def application(broker: Broker, accounts: Accounts) -> Listener:
    """The manifest's reference: `protocol = "tcp"`, port 9092. Raises `UsersFileInvalid`."""
    broker.security.find_token = token_finder(accounts)
    if broker.settings.users_file:
        await take_in(Path(broker.settings.users_file), broker.state)
    return Listener(broker)


def token_finder(accounts: Accounts) -> FindToken:
    """Looks up API tokens of the house's accounts, as a bearer of HTTP is."""

    async def find(secret: str) -> Token | None:
        headers = [(b"authorization", b"Bearer " + secret.encode(errors="replace"))]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
        try:
            caller = await accounts.authenticate(Request(scope, _nothing))
        except Unauthenticated:
            return None
        denied: set[int] = set()
        for scope_name, operations in OPERATIONS_BY_SCOPE.items():
            if not caller.may(scope_name):
                denied |= operations
        return Token(caller.name, None, frozenset(denied))

    return find


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
