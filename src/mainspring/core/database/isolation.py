"""How a function says that it needs less than SERIALIZABLE on PostgreSQL. SQLite has one writer and nothing less."""

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def read_committed(function: F) -> F:
    """Declares that `function` keeps its promise at READ COMMITTED; a racing test must show it.

    Fit for one statement that decides by itself (`UPDATE ... WHERE balance >= ... RETURNING`), never for a read that a
    later statement relies on.
    """
    function.isolation = "READ COMMITTED"  # type: ignore[attr-defined]
    return function


def isolation_of(function: Callable[..., Any]) -> str:
    return getattr(function, "isolation", "SERIALIZABLE")
