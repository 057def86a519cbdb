"""The results that `write_once` stored go after a day."""

from mainspring.core.clock import Clock
from mainspring.core.database.isolation import read_committed
from mainspring.core.database.plans import Written
from mainspring.core.ports import Connection

KEPT_US = 24 * 3600 * 1_000_000
EVERY_S = 60
ROWS_AT_ONCE = 500

SWEEP = Written(
    "DELETE FROM idempotency WHERE at_us <= :after_us AND key IN "
    f"(SELECT key FROM idempotency WHERE at_us <= :after_us ORDER BY at_us LIMIT {ROWS_AT_ONCE})"
)


@read_committed
def sweep(connection: Connection, clock: Clock) -> bool:
    """Deletes some results that are past their day; gives whether there may be more."""
    return connection.execute(SWEEP, {"after_us": clock.wall_ns() // 1000 - KEPT_US}).rowcount == ROWS_AT_ONCE
