"""The compile-once layer: SQLAlchemy Core is the language, the bare driver is the engine.

A statement object, written once at module level, is compiled once per database to a `Plan`: its SQL, a function that turns
named parameters into the driver's positional ones, and a function that turns a driver's row into values. Running it
again costs a dictionary look-up on top of the driver.

Not supported, and refused when a statement is first compiled: defaults that are Python functions (pass the value, or use
`server_default`), and parameters that are written into the SQL (`literal_execute`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NoReturn

from sqlalchemy import Executable
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase, ValuesBase
from sqlalchemy.sql.elements import BindParameter

from mainspring.core.database.core_tables import log_records
from mainspring.core.database.types import without_nul
from mainspring.core.ports import Row

PLANS_MAX = 4096
"""Statements built anew on every call would fill the memory; past this many the table starts over."""

NOT_IN_A_TRANSACTION = frozenset(
    [
        "ABORT",
        "ATTACH",
        "BEGIN",
        "COMMIT",
        "DETACH",
        "END",
        "PRAGMA",
        "RELEASE",
        "ROLLBACK",
        "SAVEPOINT",
        "START",
        "VACUUM",
    ]
)

Parameters = Mapping[str, Any]
Processor = Callable[[Any], Any]
Steps = Sequence[tuple[str, Processor | None]]
NONE: Parameters = {}


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


class Plan:
    """One statement, compiled.

    `sql` and `bind(parameters)` go to the driver, unless `expand` is set (an `IN` over a list), which gives both at once.
    `convert` is None where the driver's rows are right as they come. `changes` marks INSERT, UPDATE and DELETE, `kind`
    says which; `returns` says whether rows come back; `outbox` that the outbox's rows must be there; `special` that more is
    needed than to bind and run. `keys` are the parameters that a bare `insert(table)` was compiled for.
    """

    __slots__ = ("bind", "changes", "convert", "expand", "keys", "kind", "outbox", "returns", "special", "sql")

    def __init__(self, statement: Any, dialect: Dialect, keys: Sequence[str] | None) -> None:
        compiled: SQLCompiler = statement.compile(dialect=dialect, column_keys=keys, for_executemany=True)
        _refuse_unsupported(compiled)
        self.sql = compiled.string
        self.keys = None if keys is None else frozenset(keys)
        self.kind: str = statement.__visit_name__
        self.changes = isinstance(statement, UpdateBase)
        columns = list(getattr(statement, "exported_columns", ()))
        self.returns = bool(columns) or not self.changes
        self.convert = _converter([_result_processor(column.type, dialect) for column in columns])
        binds = {compiled.bind_names[bind]: bind for bind in compiled.bind_names}
        self.expand: Callable[[Parameters], tuple[str, Sequence[Any]]] | None = None
        self.bind: Callable[[Parameters], Sequence[Any]] = _unbound
        if compiled.post_compile_params:
            self.expand = _expander(compiled, binds)
        else:
            processors = {name: _bind_processor(bind, dialect) for name, bind in binds.items()}
            self.bind = _binder(list(compiled.positiontup or ()), processors, _given_values(binds))
        self.outbox = log_records.name in self.sql
        self.special = bool(self.expand or self.convert or self.outbox or (self.changes and self.returns))


class Plans:
    """The plans of one database, by statement object. Any thread may use it: each step is atomic, and compiling twice is
    harmless. `compiled` counts how often it was done, which takes as long as many executions."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._plans: dict[Any, Plan] = {}
        self.compiled = 0
        self.get: Callable[[Any], Plan | None] = self._plans.get

    def compile(self, statement: Executable, parameters: Parameters) -> Plan:
        """Compiles `statement`, keeping the plan under the statement itself."""
        if len(self._plans) >= PLANS_MAX:
            self._plans.clear()
        keys = sorted(parameters) if _takes_its_columns_from_parameters(statement) else None
        plan = self._plans[statement] = Plan(statement, self._dialect, keys)
        self.compiled += 1
        return plan

    def variant(self, statement: Executable, parameters: Parameters) -> Plan:
        """The plan of a bare `insert(table)` for the columns that `parameters` names this time."""
        key = (statement, tuple(sorted(parameters)))
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = Plan(statement, self._dialect, key[1])
            self.compiled += 1
        return plan


def _takes_its_columns_from_parameters(statement: Executable) -> bool:
    """Whether this is a bare `insert(table)` or `update(table)`, whose columns are the parameters it is first run with."""
    sources = ("_values", "_multi_values", "_ordered_values", "select")
    return isinstance(statement, ValuesBase) and not any(
        getattr(statement, source, None) not in (None, (), {}) for source in sources
    )


def _refuse_unsupported(compiled: SQLCompiler) -> None:
    first_word = compiled.string.lstrip().partition(" ")[0].rstrip(";").upper()
    if first_word in NOT_IN_A_TRANSACTION:
        raise TypeError(f"{first_word} is not for functions: returning commits, raising rolls back")
    if compiled.literal_execute_params:
        raise TypeError("parameters that are written into the SQL (literal_execute) are not supported")
    prefetched = [*compiled.insert_prefetch, *compiled.update_prefetch] if compiled.compile_state is not None else []
    if prefetched:
        names = ", ".join(str(column) for column in prefetched)
        raise TypeError(
            f"{names}: a default that is a Python function never runs here; pass the value or use server_default"
        )


def _bind_processor(bind: BindParameter[Any], dialect: Dialect) -> Processor | None:
    return bind.type.dialect_impl(dialect).bind_processor(dialect)


def _result_processor(column_type: Any, dialect: Dialect) -> Processor | None:
    processor: Processor | None = column_type.dialect_impl(dialect).result_processor(dialect, None)
    return processor


def _given_values(binds: Mapping[str, BindParameter[Any]]) -> dict[str, Any]:
    """The values that were written into the statement itself, such as `where(table.c.kind == "x")`."""
    given = {}
    for name, bind in binds.items():
        if bind.callable is not None:
            raise TypeError(f"parameter {name!r}: its value must not be a function")
        if not bind.required:
            given[name] = bind.value
    return given


def _binder(
    names: list[str], processors: Mapping[str, Processor | None], given: Mapping[str, Any]
) -> Callable[[Parameters], Sequence[Any]]:
    if not names:
        return lambda parameters: ()
    steps = [(name, processors[name]) for name in names]
    if all(name in given for name in names):
        constant = tuple(step(given[name]) if step else given[name] for name, step in steps)
        merging = _merging(steps, given)
        return lambda parameters: merging(parameters) if parameters else constant
    if given and not given.keys().isdisjoint(names):
        return _merging(steps, given)
    if len(names) == 1:
        only, process = steps[0]
        if process is not None:
            return lambda parameters: (process(parameters[only]),)
        return lambda parameters: (parameters[only],)
    take, changed = itemgetter(*names), [(place, step) for place, (_, step) in enumerate(steps) if step]
    if not changed:
        return take

    # A call for each text of a row would be most of the work.
    texts = [place for place, step in changed if step is without_nul]
    changed = [(place, step) for place, step in changed if step is not without_nul]

    def bind(parameters: Parameters) -> Sequence[Any]:
        values = list(take(parameters))
        for place in texts:
            if (text := values[place]) is not None and "\0" in text:
                without_nul(text)
        for place, step in changed:
            values[place] = step(values[place])
        return values

    return bind


def _merging(steps: Steps, given: Mapping[str, Any]) -> Callable[[Parameters], Sequence[Any]]:
    def bind(parameters: Parameters) -> Sequence[Any]:
        values = {**given, **parameters}
        return [step(values[name]) if step else values[name] for name, step in steps]

    return bind


def _converter(processors: list[Processor | None]) -> Callable[[Row], Row] | None:
    if not any(processors):
        return None

    def convert(row: Row) -> Row:
        return tuple(step(value) if step else value for step, value in zip(processors, row, strict=True))

    return convert


def _unbound(parameters: Parameters) -> Sequence[Any]:
    raise AssertionError("a statement with an IN over a list is expanded, not bound")


def _expander(
    compiled: SQLCompiler, binds: Mapping[str, BindParameter[Any]]
) -> Callable[[Parameters], tuple[str, Sequence[Any]]]:
    """`IN` over a list: one SQL text for each power of two of its length, the rest filled with the last element."""
    given = _given_values({name: bind for name, bind in binds.items() if not bind.expanding or bind.value is not None})
    lists = [name for name, bind in binds.items() if bind.expanding]
    texts: dict[tuple[int, ...], tuple[str, Mapping[str, Sequence[str]], Steps]] = {}

    def expand(parameters: Parameters) -> tuple[str, Sequence[Any]]:
        values = {**given, **parameters}
        for name in lists:
            values[name] = _padded(values[name])
        shape = tuple(len(values[name]) for name in lists)
        known = texts.get(shape)
        if known is None:
            state = compiled.construct_expanded_state(values)
            processors: Mapping[str, Any] = state.processors
            steps: Steps = [(name, processors.get(name)) for name in state.positiontup or ()]
            known = texts[shape] = (state.statement, state.parameter_expansion, steps)
        sql, expansion, steps = known
        for name, flat_names in expansion.items():
            values.update(zip(flat_names, _flat(values[name]), strict=True))
        return sql, [step(values[name]) if step else values[name] for name, step in steps]

    return expand


def _padded(values: Sequence[Any]) -> list[Any]:
    values = list(values)
    missing = (1 << (len(values) - 1).bit_length()) - len(values) if values else 0
    return values + values[-1:] * missing


def _flat(values: Sequence[Any]) -> Sequence[Any]:
    return [part for value in values for part in value] if values and isinstance(values[0], tuple) else values
