"""Plans: what a database knows of a statement that it has run before.

A statement is one of SQLAlchemy Core, compiled once by `compiled`, which is imported for the first of them; or `Written`, which
needs no compiler. So the language, whose import takes as long as all the rest of a start, is there once somebody asks for
what is in a table, and a process that nobody asks never has it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NoReturn

from mainspring.core.imports import imported
from mainspring.core.ports import Row

if TYPE_CHECKING:
    from sqlalchemy import Executable

PLANS_MAX = 4096
"""Statements built anew on every call would fill the memory; past this many the table starts over."""

OUTBOX = "log_records"
"""The table of events: before a statement that names it, what was emitted must be rows."""

Parameters = Mapping[str, Any]
NONE: Parameters = {}

_PARAMETER = re.compile(r":(\w+)")


class ListRows:
    """Rows that have all been fetched."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: list[Row], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def all(self) -> list[Row]:
        return self._rows

    def first(self) -> Row | None:
        return self._rows[0] if self._rows else None

    def scalar(self) -> Any:
        return self._rows[0][0] if self._rows else None


def refuse_rows(function: Any) -> NoReturn:
    """Rows live only while their transaction does, so a function must not return them unread."""
    raise TypeError(f"{function_name(function)} returned unread rows: return .all() of them")


def function_name(function: Any) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', function)}"


class Written:
    """A statement written as SQL that both databases read, with parameters like `:name`; rows come as the driver has them.

    For the few that every start runs, and those that a process runs which nobody asks for anything. Nothing checks its
    parameters, so they are never what a caller sent.
    """

    def __init__(self, sql: str) -> None:
        self.sql = sql


def unbound(parameters: Parameters) -> Sequence[Any]:
    raise AssertionError("a statement with an IN over a list is expanded, not bound")


class Plan:
    """One statement, ready to run.

    `sql` and `bind(parameters)` go to the driver, unless `expand` is set (an `IN` over a list), which gives both at once.
    `convert` is None where the driver's rows are right as they come. `changes` marks INSERT, UPDATE and DELETE, `kind`
    says which; `returns` says whether rows come back; `outbox` that the outbox's rows must be there; `special` that more is
    needed than to bind and run. `keys` are the parameters that a bare `insert(table)` was compiled for.
    """

    __slots__ = ("bind", "changes", "convert", "expand", "keys", "kind", "outbox", "returns", "special", "sql")

    def __init__(
        self,
        sql: str,
        kind: str,
        *,
        changes: bool,
        returns: bool,
        bind: Callable[[Parameters], Sequence[Any]] = unbound,
        expand: Callable[[Parameters], tuple[str, Sequence[Any]]] | None = None,
        convert: Callable[[Row], Row] | None = None,
        keys: frozenset[str] | None = None,
    ) -> None:
        self.sql = sql
        self.kind = kind
        self.changes = changes
        self.returns = returns
        self.bind = bind
        self.expand = expand
        self.convert = convert
        self.keys = keys
        self.outbox = OUTBOX in sql
        self.special = bool(expand or convert or self.outbox or (changes and returns))


class Plans:
    """The plans of one database by statement object; `dialect` is `sqlite` or `postgresql`.

    Any thread may use it: each step is atomic, and compiling twice is harmless. `compiled` counts how often it was done, which
    takes as long as many executions.
    """

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect
        self._compiler: Any = None
        self._plans: dict[Any, Plan] = {}
        self.compiled = 0
        self.get: Callable[[Any], Plan | None] = self._plans.get

    def compile(self, statement: "Executable | Written", parameters: Parameters) -> Plan:
        """Compiles `statement`, keeping the plan under the statement itself."""
        if len(self._plans) >= PLANS_MAX:
            self._plans.clear()
        if isinstance(statement, Written):
            plan = _written(statement.sql, "?" if self._dialect == "sqlite" else "%s")
        else:
            plan = self._compile(statement, parameters)
        self._plans[statement] = plan
        self.compiled += 1
        return plan

    def variant(self, statement: "Executable | Written", parameters: Parameters) -> Plan:
        """The plan of a bare `insert(table)` for the columns that `parameters` names this time."""
        key = (statement, tuple(sorted(parameters)))
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._compile(statement, parameters)
            self.compiled += 1
        return plan

    def _compile(self, statement: Any, parameters: Parameters) -> Plan:
        if self._compiler is None:
            self._compiler = imported("mainspring.core.database.compiled").Compiler(self._dialect)
        plan: Plan = self._compiler.plan(statement, parameters)
        return plan


def _written(sql: str, placeholder: str) -> Plan:
    names = _PARAMETER.findall(sql)
    bind: Callable[[Parameters], Sequence[Any]]
    if len(names) == 1:
        only = names[0]
        bind = lambda parameters: (parameters[only],)  # noqa: E731
    else:
        bind = itemgetter(*names) if names else lambda parameters: ()
    kind = sql.split(maxsplit=1)[0].lower()
    return Plan(_PARAMETER.sub(placeholder, sql), kind, changes=kind != "select", returns=kind == "select", bind=bind)
