"""Accounts: users, sessions, tokens with scopes, and who did what.

`Caller` is light. `Accounts`, which brings the database's language with it, is imported when it is first named.
"""

from typing import TYPE_CHECKING

from mainspring.core.accounts.caller import ANONYMOUS, Caller
from mainspring.core.faces import lazily

if TYPE_CHECKING:
    from mainspring.core.accounts.service import Accounts

__all__ = ["ANONYMOUS", "Accounts", "Caller"]


__getattr__ = lazily(__name__, {"Accounts": "service"})
