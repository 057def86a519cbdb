"""What is asked of the outbox's tables by a process that nobody asks for anything: whether there is something to do."""

from mainspring.core.database.plans import Written
from mainspring.core.outbox.model import EVERYTHING, RELAY
from mainspring.core.ports import Connection

_ANY_RECORD = Written("SELECT id FROM log_records LIMIT 1")
_ANY_UNRELAYED = Written(
    "SELECT id FROM log_records WHERE id > coalesce("
    "(SELECT position FROM log_positions WHERE consumer_group = :relay AND topic = :everything), 0) LIMIT 1"
)
_COMMITTED_TOPICS = Written("SELECT DISTINCT topic FROM log_commits")


def is_empty(connection: Connection) -> bool:
    """Whether there is no record at all."""
    return connection.execute(_ANY_RECORD).first() is None


def is_unrelayed(connection: Connection) -> bool:
    """Whether an event waits for the relay; on PostgreSQL also one that is not final yet."""
    return connection.execute(_ANY_UNRELAYED, {"relay": RELAY, "everything": EVERYTHING}).first() is not None


def committed_topics(connection: Connection) -> set[str]:
    """Every topic in which a group has a position of `commits`."""
    return {topic for (topic,) in connection.execute(_COMMITTED_TOPICS)}
