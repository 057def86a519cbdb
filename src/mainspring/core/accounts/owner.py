"""The owner's account, which is there from the first start on: nameless, without a password, until somebody sets it up."""

from mainspring.core.accounts.model import OWNER_ID
from mainspring.core.database.plans import Written
from mainspring.core.ports import Connection

_FIND = Written("SELECT id FROM accounts_account WHERE id = :id")
_ADD = Written(
    "INSERT INTO accounts_account (id, kind, name, role, scopes, created_us) "
    "VALUES (:id, 'user', 'owner', 'owner', '', :now_us) ON CONFLICT DO NOTHING"
)


def is_there(connection: Connection) -> bool:
    return connection.execute(_FIND, {"id": OWNER_ID}).first() is not None


def add(connection: Connection, now_us: int) -> None:
    """Does nothing where another node was faster."""
    connection.execute(_ADD, {"id": OWNER_ID, "now_us": now_us})
