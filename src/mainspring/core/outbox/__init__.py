"""Events that follow a write: the `Log` port over the database's own tables.

`connection.emit` puts an event into the transaction that causes it; `OutboxLog` gives all events to consumer groups, in
commit order, until `storage.log` does. `Mark` is imported when it is first named, because SQLAlchemy comes with it.
"""

from typing import TYPE_CHECKING

from mainspring.core.faces import lazily
from mainspring.core.outbox.consumer import OutboxConsumer
from mainspring.core.outbox.log import OutboxLog
from mainspring.core.outbox.model import Retention

if TYPE_CHECKING:
    from mainspring.core.outbox.transactions import Mark

__all__ = ["Mark", "OutboxConsumer", "OutboxLog", "Retention"]


__getattr__ = lazily(__name__, {"Mark": "transactions"})
