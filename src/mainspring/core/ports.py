"""The four ports: what a system asks of the world, whatever stands behind it.

`Database` (SQLite or PostgreSQL), `Log` (ordered events), `Blobs` (objects) and `Cache` (values that may vanish). A system
names the ports it needs in its constructor; `core.wiring` passes the adapter that the configuration chose.
"""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar

import msgspec

if TYPE_CHECKING:
    from sqlalchemy import Executable, MetaData

    from mainspring.core.database.plans import Written

P = ParamSpec("P")
T = TypeVar("T")
Row = tuple[Any, ...]
Statement: TypeAlias = "Executable | Written"
Tables: TypeAlias = "MetaData | Callable[[], MetaData]"
"""The tables of a system, or what gives them: who prepares tables that are there already needs none."""


class Rows(Protocol):
    """What a statement gave back: tuples in the order of its columns."""

    rowcount: int

    def __iter__(self) -> Iterator[Row]: ...

    def all(self) -> list[Row]: ...

    def first(self) -> Row | None:
        """The first row, or None where there is none."""

    def scalar(self) -> Any:
        """The first column of the first row, or None."""


class Connection(Protocol):
    """A transaction in progress, as a plain function sees it. There is no commit: returning commits, raising rolls back."""

    dialect: str
    """`sqlite` or `postgresql`."""

    def execute(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> Rows:
        """Runs one SQLAlchemy Core statement, written once at module level with `bindparam`s, or one `Written` as SQL.

        Raises `Duplicate` (unique or primary key), `Violation` (another constraint), `Timeout` (deadline passed).
        """

    def execute_many(self, statement: Statement, parameters: Sequence[Mapping[str, Any]]) -> int:
        """Runs one statement without results for each set of parameters; gives the number of rows changed."""

    def after_commit(self, hook: Callable[[], None]) -> None:
        """Calls `hook` on the event loop once this transaction is durable, in commit order, before the caller is answered."""

    def emit(
        self, topic: str, value: bytes, key: bytes | None = None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        """Puts an event in the outbox; it reaches the Log if and only if this transaction commits."""


class Database(Protocol):
    """Transactions as plain synchronous functions: `function(connection, *args)`, run perhaps more than once."""

    dialect: str

    async def read(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `function` on one consistent snapshot; writing raises."""

    async def write(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `function` and returns its result once it is durable. Raises what `function` raised, having changed nothing.

        Raises `Unavailable` (503) without a database and `StorageFull` (507) on a full disk.
        """

    async def write_once(
        self,
        key: str,
        digest: bytes,
        function: Callable[Concatenate[Connection, P], bytes],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> tuple[bytes, bool]:
        """Like `write`, at most once for `key`: the result (at most 1 MiB) is stored in the same transaction.

        Gives (result, replayed). Raises `KeyReused` (422) where `key` was used with another `digest`. Keys live 24 hours.
        """

    async def prepare(self, name: str, tables: Tables, folder: Path | None = None) -> None:
        """Creates the tables of the system `name`, or brings them to this version by the scripts in `folder`."""

    def watch(self, topic: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` on the event loop after commits that emitted to `topic`; gives what ends this."""

    def recent_events(
        self, offset: int, records_max: int, topics: Collection[str] | None = None
    ) -> "tuple[list[Record], int] | None":
        """The first events of these topics (None: of all) past `offset`, and the newest offset of all, from memory.

        None where the memory does not reach back so far, or others commit too: then the rows must be read. What this does
        not tell yet may already be in the rows, but never an earlier event.
        """

    async def scrub(self) -> bool:
        """Embedded: leaves nothing on the disk of what has been deleted until now, in the file or in its log.

        Gives False where a running read still holds on to it: ask again later. On a server that is the server's affair.
        """

    def unready(self) -> str | None:
        """Why this database cannot be relied on now, or None where it can."""


class Record(msgspec.Struct, frozen=True):
    """One event of a topic's partition; `at_us` is microseconds UTC."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    at_us: int


class Position(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    offset: int


class Consumer(Protocol):
    """A member of a group: batches in offset order, each delivered again until committed."""

    def __aiter__(self) -> AsyncIterator[list[Record]]: ...

    async def commit(self) -> None:
        """Makes the position after the last batch durable."""

    def commit_in(self, connection: Connection) -> bool:
        """Moves the group's position in the caller's own transaction, so that the effect and the position are one.

        Gives False where another member has already passed this batch: the caller must then change nothing.
        """

    async def close(self) -> None: ...


class Log(Protocol):
    """Ordered, durable events.

    Where topics have partitions (`storage.log`, Apache Kafka), order is that of the records of one key, and a consumer owns
    some of the partitions; what such logs can do beyond this is in `storage.log`.
    """

    async def append(
        self, topic: str, value: bytes, key: bytes | None = None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> Position:
        """Appends one record; it is durable when this returns."""

    async def append_many(self, topic: str, records: Iterable[tuple[bytes | None, bytes]]) -> Sequence[Position]:
        """Appends `(key, value)` pairs in order: all or none of those that go to one partition; of a log on other machines,
        perhaps the first ones where it raises."""

    def consumer(self, group: str, topics: Sequence[str], batch_records_max: int = 500) -> Consumer: ...


class Blob(msgspec.Struct, frozen=True):
    """What is known of a blob beside its bytes. `etag` is strong and without quotes; times are microseconds UTC."""

    name: str
    size: int
    etag: str
    modified_us: int
    content_type: str = ""
    metadata: dict[str, str] = {}


class BlobPage(msgspec.Struct, frozen=True):
    """Blobs in the order of their names (without content type and metadata), and names rolled up at a delimiter."""

    blobs: list[Blob]
    prefixes: list[str]
    next: str | None
    """To be given as `after` for what follows; None where nothing does."""


class Blobs(Protocol):
    """Named bytes of any size, replaced whole. A name is parts of letters, digits and `-_.=+@` joined by slashes, at most
    1,024 bytes; no part is empty, `.` or `..`. What was answered is durable, and every later call sees it."""

    async def put(
        self,
        name: str,
        body: bytes | AsyncIterable[bytes],
        content_type: str = "application/octet-stream",
        *,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> Blob:
        """Stores `body` in the place of what had its name. Of many who put `if_absent`, or `if_match` the same ETag, exactly
        one succeeds; the others get `PreconditionFailed`. Raises `Invalid` for a name that is none."""

    async def get(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes [start, stop) of a blob, which must fit into memory. Raises `KeyError` where there is none."""

    def stream(self, name: str) -> AsyncIterator[bytes]:
        """A blob's bytes in chunks, of one version of it. Raises `KeyError` where there is none."""

    async def head(self, name: str) -> Blob:
        """Raises `KeyError` where there is none."""

    async def delete(self, name: str) -> None:
        """Deletes a blob; nothing where there is none."""

    async def list(self, prefix: str = "", after: str = "", *, delimiter: str = "", count: int = 1000) -> BlobPage:
        """Blobs whose names begin with `prefix` and come after `after`; at most 1,000 of them and of common prefixes."""

    async def presign(self, name: str, expires_s: int = 3600, method: str = "GET") -> str:
        """A URL by which whoever has it can GET or PUT the blob until it expires, after at most seven days."""


class Cache(Protocol):
    """Values that may vanish at any time. Nothing here excludes anybody: use `primitives.locks` for that."""

    async def get(self, key: str) -> bytes | None: ...

    async def set(self, key: str, value: bytes, ttl_s: float) -> None: ...

    async def add(self, key: str, value: bytes, ttl_s: float) -> bool:
        """Sets `key` only where it is absent; gives whether it did."""

    async def delete(self, *keys: str) -> None: ...

    async def increment(self, key: str, by: int = 1, *, ttl_s: float) -> int:
        """Adds to a counter and gives its new value; the TTL starts when the counter does."""

    async def publish(self, channel: str, message: bytes) -> None: ...

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Messages published from now on; a subscriber that falls 1,000 behind loses the oldest."""

    def best_effort_lock(self, name: str, ttl_s: float) -> AbstractAsyncContextManager[bool]:
        """Yields whether the lock was got. It may be held twice after a fail-over: only ever to save work."""
