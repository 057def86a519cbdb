"""Who is calling, and what they may do. Imports nothing heavy, because every system names this type.

A scope is `<system>:<action>` (`links:write`), `<system>:*` for all of a system, or `*` for everything. Holding
`links:*` means holding each `links:…`; nothing else is implied, so `links:write` does not contain `links:read`.
"""

import re
from collections.abc import Iterable

import msgspec

_SCOPE = re.compile(r"\*|[a-z][a-z0-9_-]{0,39}:(?:\*|[a-z][a-z0-9_-]{0,39})")


class Caller(msgspec.Struct, frozen=True):
    """An authenticated account, or nobody.

    `account_id` is None for nobody; the one-click token of a process acts for the owner's account. `kind` is one of
    `anonymous`, `one_click`, `session`, `token`, `app_password`, and `operator` for the command line; `token_id` is the id
    of the session, token or app password.
    """

    account_id: int | None
    name: str
    kind: str
    scopes: frozenset[str]
    token_id: int | None = None

    def may(self, scope: str) -> bool:
        """Whether these credentials allow `scope`."""
        scopes = self.scopes
        return scope in scopes or "*" in scopes or f"{scope.partition(':')[0]}:*" in scopes

    @property
    def anonymous(self) -> bool:
        """Whether nobody has been authenticated."""
        return self.kind == "anonymous"


ANONYMOUS = Caller(None, "anonymous", "anonymous", frozenset())


def is_scope(text: str) -> bool:
    """Whether `text` is written as a scope."""
    return _SCOPE.fullmatch(text) is not None


def covers(held: Iterable[str], wanted: Iterable[str]) -> bool:
    """Whether everything that `wanted` allows is allowed by `held`: the rule for handing scopes on."""
    scopes = frozenset(held)
    return "*" in scopes or all(scope in scopes or f"{scope.partition(':')[0]}:*" in scopes for scope in wanted)
