"""Errors that a caller can act on, in the form of RFC 9457 (problem details).

A system's errors are subclasses of `Problem` in its `service.py` or `model.py`; nothing else is needed for them to reach
an HTTP caller in the right form. Any other exception is a fault of ours and becomes a 500 without its text.
"""

from typing import Any, ClassVar


class Problem(Exception):
    """An error with a status, a stable type and a detail that says what to do.

    A subclass sets `status` (HTTP), `type` (`<system>/<kebab-name>`, stable for ever, resolved below `/problems/`) and
    `title` (one line, the same for every occurrence). `more` holds extension members; `headers` are added to the answer.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str = "", *, headers: tuple[tuple[str, str], ...] = (), **more: Any) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.headers = headers
        self.more = more

    def body(self) -> dict[str, Any]:
        """The members of the `application/problem+json` object."""
        members = {"type": f"/problems/{self.type}", "title": self.title, "status": self.status, "detail": self.detail}
        return members | self.more


class Invalid(Problem):
    """A field has the wrong shape or value; `pointer` is a JSON pointer into body, query or path."""

    status, type, title = 422, "core/invalid", "A field is not valid"


class Malformed(Problem):
    status, type, title = 400, "core/malformed", "The request could not be read"


class Unauthenticated(Problem):
    status, type, title = 401, "core/unauthenticated", "Credentials are missing or not valid"


class Forbidden(Problem):
    status, type, title = 403, "core/forbidden", "These credentials do not allow this"


class NotFound(Problem):
    status, type, title = 404, "core/not-found", "There is nothing at this address"


class Conflict(Problem):
    status, type, title = 409, "core/conflict", "This conflicts with what is there"


class PreconditionFailed(Problem):
    status, type, title = 412, "core/precondition-failed", "The resource has changed since you read it"


class TooLarge(Problem):
    status, type, title = 413, "core/too-large", "The body is larger than this address accepts"


class KeyReused(Problem):
    status, type, title = 422, "core/idempotency-key-reused", "This Idempotency-Key was used with another request"


class TooMany(Problem):
    status, type, title = 429, "core/too-many", "Too many requests"


class Unavailable(Problem):
    """Try again later; carries `Retry-After`."""

    status, type, title = 503, "core/unavailable", "Not available right now"

    def __init__(self, detail: str = "", *, retry_after_s: int = 1, **more: Any) -> None:
        super().__init__(detail, headers=(("retry-after", str(retry_after_s)),), **more)


class StorageFull(Problem):
    status, type, title = 507, "core/storage-full", "The disk is too full to accept this write"
