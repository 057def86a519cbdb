"""Accounts: users, sessions, tokens with scopes, and who did what.

`Caller` is light. `Accounts`, which brings the database's language with it, is imported when it is first named.
"""

from typing import TYPE_CHECKING, Any

from mainspring.core.accounts.caller import ANONYMOUS, Caller

if TYPE_CHECKING:
    from mainspring.core.accounts.service import Accounts

__all__ = ["ANONYMOUS", "Accounts", "Caller"]


def __getattr__(name: str) -> Any:
    if name == "Accounts":
        from mainspring.core.accounts.service import Accounts

        return Accounts
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
