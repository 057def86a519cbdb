"""Events that follow a write: the `Log` port over the database's own tables.

`connection.emit` puts an event into the transaction that causes it; `OutboxLog` gives all events to consumer groups, in
commit order, until `storage.log` does. `Mark` is imported when it is first named, because SQLAlchemy comes with it.
"""

from typing import TYPE_CHECKING, Any

from mainspring.core.outbox.consumer import OutboxConsumer
from mainspring.core.outbox.log import OutboxLog
from mainspring.core.outbox.model import Retention

if TYPE_CHECKING:
    from mainspring.core.outbox.transactions import Mark

__all__ = ["Mark", "OutboxConsumer", "OutboxLog", "Retention"]


def __getattr__(name: str) -> Any:
    if name == "Mark":
        from mainspring.core.outbox.transactions import Mark

        return Mark
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
