"""The same key with the same request changes nothing twice and answers alike; with another request it is refused."""

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec
import pytest

from mainspring.core.accounts.caller import ANONYMOUS, Caller
from mainspring.core.http import Request, Routes
from mainspring.core.once import Once, write
from mainspring.core.ports import Connection, Database
from mainspring.core.problems import Conflict, KeyReused
from tests.asgi import Called, call

P = ParamSpec("P")
T = TypeVar("T")


class Remembering:
    """The `Database` port's promises about writing, kept in a dict; its connections are lists of what was written."""

    dialect = "memory"

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.keys: dict[str, tuple[bytes, bytes]] = {}

    async def read(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return function(self.rows, *args, **kwargs)

    async def write(self, function: Callable[Concatenate[Any, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        before = self.rows.copy()
        try:
            return function(self.rows, *args, **kwargs)
        except BaseException:
            self.rows[:] = before
            raise

    async def write_once(
        self, key: str, digest: bytes, function: Callable[Concatenate[Any, P], bytes], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[bytes, bool]:
        if key in self.keys:
            stored_digest, result = self.keys[key]
            if stored_digest != digest:
                raise KeyReused
            return result, True
        result = await self.write(function, *args, **kwargs)
        self.keys[key] = digest, result
        return result, False


class Note(msgspec.Struct):
    id: int
    text: str


class NewNote(msgspec.Struct):
    text: str


class Notes:
    def __init__(self, database: Database) -> None:
        self.database = database

    async def add(self, text: str, *, once: Once | None = None) -> Note:
        return await write(self.database, once, Note, insert, text)


def insert(connection: Connection, text: str) -> Note:
    rows: list[str] = connection  # type: ignore[assignment]
    rows.append(text)
    if text == "refused":
        raise Conflict
    return Note(len(rows), text)


routes = Routes("notes")


@routes.post("/notes", status=201, idempotent=True, public=True)
async def add(body: NewNote, notes: Notes, once: Once | None) -> Note:
    return await notes.add(body.text, once=once)


@routes.post("/{box}/notes", status=201, idempotent=True, public=True)
async def add_to(box: str, body: NewNote, notes: Notes, once: Once | None) -> Note:
    return await notes.add(f"{box}: {body.text}", once=once)


async def authenticate(request: Request) -> Caller:
    name = request.header("authorization")
    return Caller(len(name), name, "token", frozenset("*")) if name else ANONYMOUS


@pytest.fixture
def database() -> Remembering:
    return Remembering()


@pytest.fixture
def app(database: Remembering) -> Any:
    return routes.application({Notes: Notes(database)}, authenticate)


async def post(app: Any, text: str, key: str | None, *, token: str = "ada", target: str = "/notes") -> Called:
    headers = {"idempotency-key": key} if key is not None else {}
    return await call(app, "POST", f"/api/notes{target}", json={"text": text}, token=token, headers=headers)


async def test_the_same_request_again_gets_the_first_answer_and_changes_nothing(
    app: Any, database: Remembering
) -> None:
    first = await post(app, "a", "key-1")
    again = await post(app, "a", '"key-1"')
    assert (first.status, again.status, first.body) == (201, 201, again.body)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert database.rows == ["a"]


async def test_another_request_with_the_key_is_refused(app: Any, database: Remembering) -> None:
    await post(app, "a", "key-1")
    refused = await post(app, "b", "key-1")
    assert (refused.status, refused.json()["type"]) == (422, "/problems/core/idempotency-key-reused")
    await post(app, "a", "key-2", target="/box/notes")
    assert (await post(app, "a", "key-2", target="/other/notes")).status == 422
    assert database.rows == ["a", "box: a"]


async def test_keys_of_two_callers_or_two_operations_never_meet(app: Any, database: Remembering) -> None:
    for token in ("ada", "grace", ""):
        await post(app, "a", "key-1", token=token) if token else await post_as_nobody(app, "a", "key-1")
    await post(app, "a", "key-1", target="/box/notes")
    assert len(database.rows) == 4


async def post_as_nobody(app: Any, text: str, key: str) -> Called:
    return await call(app, "POST", "/api/notes/notes", json={"text": text}, headers={"idempotency-key": key})


async def test_without_a_key_each_request_is_its_own(app: Any, database: Remembering) -> None:
    for _ in range(2):
        assert (await post(app, "a", None)).status == 201
    assert database.rows == ["a", "a"] and database.keys == {}


async def test_a_request_that_failed_may_be_tried_again_with_its_key(app: Any, database: Remembering) -> None:
    assert (await post(app, "refused", "key-1")).status == 409
    assert (await post(app, "refused", "key-1")).status == 409
    assert (await post(app, "a", "key-1")).status == 201
    assert database.rows == ["a"]


@pytest.mark.parametrize("key", ["", '""', "k" * 256, "schlüssel", "a b", '"'])
async def test_a_key_that_is_none_is_refused(app: Any, database: Remembering, key: str) -> None:
    answer = await post(app, "a", key)
    assert (answer.status, answer.json()["pointer"]) == (400, "/headers/idempotency-key")
    assert database.rows == []
