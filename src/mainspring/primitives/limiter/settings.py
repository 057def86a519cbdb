"""What an operator can set for the limiter: section `[limiter]` of the configuration."""

from typing import Annotated

import msgspec
from msgspec import Meta


class LimiterSettings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    store: Annotated[
        str,
        Meta(pattern="^(memory|redis|sql)$", description="Where counts are kept: memory (this process), redis or sql"),
    ] = "memory"
    redis_url: Annotated[str, Meta(description="Address of the Redis or Valkey of the store redis")] = (
        "redis://127.0.0.1:6379/0"
    )
    redis_prefix: Annotated[str, Meta(min_length=1, description="What the names of all keys in Redis begin with")] = (
        "limiter"
    )
    deadline_ms: Annotated[
        int, Meta(ge=1, le=10_000, description="How long a store may take before the policy decides without it")
    ] = 50
    max_keys: Annotated[
        int,
        Meta(
            ge=100,
            le=100_000_000,
            description="Keys of one limit kept in this process, 200 bytes each at most but for logs and slots",
        ),
    ] = 1_000_000
    policies: Annotated[
        dict[str, str], Meta(description="Policies by name, in text form; what is set through the API goes before them")
    ] = msgspec.field(default_factory=dict)
