"""The compile-once layer: SQLAlchemy Core is the language, the bare driver is the engine.

A statement object, written once at module level, is compiled once per database to a `Plan`: its SQL, a function that turns
named parameters into the driver's positional ones, and a function that turns a driver's row into values. Running it
again costs a dictionary look-up on top of the driver.

Not supported, and refused when a statement is first compiled: defaults that are Python functions (pass the value, or use
`server_default`), and parameters that are written into the SQL (`literal_execute`).
"""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Executable
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase, ValuesBase
from sqlalchemy.sql.elements import BindParameter

from mainspring.core.database.dialects import postgres_dialect, sqlite_dialect
from mainspring.core.database.plans import Parameters, Plan, unbound
from mainspring.core.database.types import without_nul
from mainspring.core.ports import Row

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

Processor = Callable[[Any], Any]
Steps = Sequence[tuple[str, Processor | None]]


class Compiler:
    """Makes plans for one database; `dialect` is `sqlite` or `postgresql`."""

    def __init__(self, dialect: str) -> None:
        self._dialect = sqlite_dialect() if dialect == "sqlite" else postgres_dialect()

    def plan(self, statement: Any, parameters: Parameters) -> Plan:
        """The plan of `statement`; of a bare `insert(table)` for the columns that `parameters` names."""
        dialect = self._dialect
        keys = sorted(parameters) if _takes_its_columns_from_parameters(statement) else None
        compiled: SQLCompiler = statement.compile(dialect=dialect, column_keys=keys, for_executemany=True)
        _refuse_unsupported(compiled)
        changes = isinstance(statement, UpdateBase)
        columns = list(getattr(statement, "exported_columns", ()))
        binds = {compiled.bind_names[bind]: bind for bind in compiled.bind_names}
        expand: Callable[[Parameters], tuple[str, Sequence[Any]]] | None = None
        bind: Callable[[Parameters], Sequence[Any]] = unbound
        if compiled.post_compile_params:
            expand = _expander(compiled, binds)
        else:
            processors = {name: _bind_processor(bind, dialect) for name, bind in binds.items()}
            bind = _binder(list(compiled.positiontup or ()), processors, _given_values(binds))
        return Plan(
            compiled.string,
            statement.__visit_name__,
            changes=changes,
            returns=bool(columns) or not changes,
            bind=bind,
            expand=expand,
            convert=_converter([_result_processor(column.type, dialect) for column in columns]),
            keys=None if keys is None else frozenset(keys),
        )


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
