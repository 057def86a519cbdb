"""What a connection knows of its client: where it came from, who it is, what it said of its software."""

import msgspec

ANONYMOUS = "User:ANONYMOUS"


class Session(msgspec.Struct, gc=False):
    """`local_host` and `local_port` are the address that the client came to. `expires_ns` (monotonic) is when its
    authentication ends, None for never."""

    address: str
    local_host: str = ""
    local_port: int = 0
    principal: str = ANONYMOUS
    authenticated: bool = False
    software: str = ""
    software_version: str = ""
    expires_ns: int | None = None
