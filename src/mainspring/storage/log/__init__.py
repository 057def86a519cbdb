"""The log: topics of ordered, durable records, in process and for every Kafka client at the same time.

    log = Log(Path("data/log"), SystemClock())
    await log.start()
    position = await log.append("orders", b"...", key=b"customer-7")

`Log` is imported when it is first asked for, so that naming this package costs nothing.
"""

from typing import TYPE_CHECKING

from mainspring.core.faces import lazily

if TYPE_CHECKING:
    from mainspring.storage.log.apache_client import reach_kafka
    from mainspring.storage.log.consumer import LogConsumer
    from mainspring.storage.log.errors import LogError
    from mainspring.storage.log.moving import Moved, move_to_kafka, record_count
    from mainspring.storage.log.packing import New
    from mainspring.storage.log.service import Log, Transaction

__all__ = [
    "Log",
    "LogConsumer",
    "LogError",
    "Moved",
    "New",
    "Transaction",
    "move_to_kafka",
    "reach_kafka",
    "record_count",
]

_ROOMS = {
    "Log": "service",
    "LogConsumer": "consumer",
    "LogError": "errors",
    "Moved": "moving",
    "New": "packing",
    "Transaction": "service",
    "move_to_kafka": "moving",
    "reach_kafka": "apache_client",
    "record_count": "moving",
}


__getattr__ = lazily(__name__, _ROOMS)
