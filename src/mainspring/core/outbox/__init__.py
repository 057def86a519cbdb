"""Events that follow a write: the `Log` port over the database's own tables.

`connection.emit` puts an event into the transaction that causes it; `OutboxLog` gives all events to consumer groups, in
commit order, until `storage.log` does.
"""

from mainspring.core.outbox.consumer import OutboxConsumer
from mainspring.core.outbox.log import OutboxLog
from mainspring.core.outbox.pruning import Retention
from mainspring.core.outbox.transactions import Mark

__all__ = ["Mark", "OutboxConsumer", "OutboxLog", "Retention"]
