"""What a connection knows of its client: where it came from, who it is, what it said of its software."""

from collections.abc import Callable
from typing import Any

import msgspec

from mainspring.storage.log.transaction_machine import connection_number

ANONYMOUS = "User:ANONYMOUS"


class Session(msgspec.Struct, gc=False):
    """`local_host` and `local_port` are the address that the client came to. `expires_ns` (monotonic) is when its
    authentication ends, None for never. `login` is the SASL exchange that is going on; `denied` are operations that its
    token does not allow. `on_end` is called when the connection is lost, as those of `shares` are, by the group and member of
    the share sessions that it opened; `number` is its place in the order in which all were accepted."""

    address: str
    local_host: str = ""
    local_port: int = 0
    principal: str = ANONYMOUS
    authenticated: bool = False
    software: str = ""
    software_version: str = ""
    expires_ns: int | None = None
    login: Any = None
    raw_login: bool = False
    denied: frozenset[int] = frozenset()
    on_end: Callable[[], None] | None = None
    shares: dict[tuple[str, str], Callable[[], None]] = {}
    number: int = msgspec.field(default_factory=connection_number)

    def end(self) -> None:
        if self.on_end is not None:
            self.on_end()
            self.on_end = None
        for abandon in self.shares.values():
            abandon()
        self.shares.clear()
