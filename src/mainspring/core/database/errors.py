"""What can go wrong in a transaction, named for what a caller can do about it.

`Duplicate` and `Violation` say that the data refused; a service turns them into its own problem. The others are problems
already, because no service can do better than to pass them on.

A statement that fails ends its transaction, on every adapter: catching the error inside the function does not save it.
Write `on_conflict_do_nothing().returning(...)` where a clash is part of the plan.
"""

from typing import NoReturn

from mainspring.core.problems import Problem


class Violation(Exception):
    """A constraint, a type or a range refused a value."""


class Duplicate(Violation):
    """A unique or primary key is taken. `key` names what the database named: `table.column` or the constraint."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class ReadOnly(Exception):
    """A function given to `read` tried to write."""


class SchemaError(Exception):
    """A system's tables cannot be prepared: their revision is unknown, or another system has a table of that name."""


class Timeout(Problem):
    """The deadline passed while the function ran; nothing was changed."""

    status, type, title = 503, "core/database-timeout", "The database took too long"


class Damaged(Problem):
    """A page of the database file cannot be read. Restore a backup; `database.check()` says what is damaged."""

    status, type, title = 500, "core/database-damaged", "The database file is damaged"


def raise_meaning(meaning: BaseException, error: BaseException) -> NoReturn:
    """Raises `meaning`, our translation of a driver's `error`, which may be the same object.

    No frame of ours goes on naming what it raised: an error that names itself by its traceback would be freed by the collector
    only, and until then it keeps the cursor whose statement failed, and so that statement from being used again.
    """
    try:
        if meaning is error:
            raise error
        raise meaning from error
    finally:
        del meaning, error
