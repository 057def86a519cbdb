"""The SQL of accounts for whoever is there from the start: imported when it is first run."""

from typing import TYPE_CHECKING

from mainspring.core.database.steps import Steps

if TYPE_CHECKING:
    from mainspring.core.accounts import changes, store
else:
    changes, store = (Steps(f"mainspring.core.accounts.{name}") for name in ("changes", "store"))

__all__ = ["changes", "store"]
