"""`write_once`: the result of a function is stored under its key, in the function's own transaction."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import bindparam, select

from mainspring.core.clock import Clock
from mainspring.core.database.core_tables import idempotency
from mainspring.core.database.sweeping import KEPT_US
from mainspring.core.database.upserts import insert
from mainspring.core.ports import Connection
from mainspring.core.problems import KeyReused

RESULT_BYTES_MAX = 1 << 20

FIND = select(idempotency.c.digest, idempotency.c.result).where(
    idempotency.c.key == bindparam("key"), idempotency.c.at_us > bindparam("after_us")
)
STORE = (
    insert(idempotency)
    .values(key=bindparam("key"), digest=bindparam("digest"), result=bindparam("result"), at_us=bindparam("now_us"))
    .on_conflict_do_update(
        index_elements=["key"],
        set_={"digest": bindparam("digest"), "result": bindparam("result"), "at_us": bindparam("now_us")},
        where=idempotency.c.at_us <= bindparam("after_us"),
    )
)


def run_once(
    connection: Connection,
    clock: Clock,
    key: str,
    digest: bytes,
    function: Callable[..., bytes],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[bytes, bool]:
    """Gives the stored result of `key` and True, or runs `function`, stores its result, and gives it and False."""
    now_us = clock.wall_ns() // 1000
    after_us = now_us - KEPT_US
    known = connection.execute(FIND, {"key": key, "after_us": after_us}).first()
    if known is not None:
        if known[0] != digest:
            raise KeyReused
        return known[1], True
    result = function(connection, *args, **kwargs)
    if len(result) > RESULT_BYTES_MAX:
        raise ValueError(f"a stored result is at most {RESULT_BYTES_MAX} bytes, not {len(result)}")
    connection.execute(STORE, {"key": key, "digest": digest, "result": result, "now_us": now_us, "after_us": after_us})
    return result, False
