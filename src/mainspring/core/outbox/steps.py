"""The outbox's SQL for whoever is there from the start: imported when it is first run."""

from typing import TYPE_CHECKING

from mainspring.core.database.steps import Steps

if TYPE_CHECKING:
    from mainspring.core.outbox import commits, pruning, transactions
else:
    commits, pruning, transactions = (
        Steps(f"mainspring.core.outbox.{name}") for name in ("commits", "pruning", "transactions")
    )

__all__ = ["commits", "pruning", "transactions"]
