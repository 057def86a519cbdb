"""A line for each request in the log `mainspring.access`: our own failures (5xx) at INFO, everything else at DEBUG.

A line has the path without the query, which may hold credentials.
"""

import logging

from mainspring.core.http.request import Scope

log = logging.getLogger("mainspring.access")
FAILED = 500
NEVER = 1000


def note(scope: Scope, status: int, seconds: float, request_id: str) -> None:
    """Writes the line; what `Manners` calls."""
    level = logging.INFO if status >= FAILED else logging.DEBUG
    told = {"status": status, "seconds": round(seconds, 6), "request_id": request_id}
    log.log(level, "%s %s", scope["method"], scope["path"], extra=told)


def status_min() -> int:
    """The lowest status that is worth a call of `note` at the level that logging has now: a server asks once."""
    if log.isEnabledFor(logging.DEBUG):
        return 0
    return FAILED if log.isEnabledFor(logging.INFO) else NEVER
