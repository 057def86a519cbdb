"""The description says what binding does: valid OpenAPI 3.1, true to the types, and a fuzzer's every guess is answered."""

from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import negative_data_rejection

from mainspring.core.accounts.authenticator import COOKIE
from mainspring.core.accounts.caller import ANONYMOUS, Caller
from mainspring.core.http import Form, Request, Response, Routes, Stream, asgi
from mainspring.core.http.openapi import describe
from mainspring.core.http.pages import Page, PageQuery
from mainspring.core.once import Once
from mainspring.core.problems import Conflict, Unauthenticated

T = TypeVar("T")
Code = Annotated[str, msgspec.Meta(pattern="^[a-z]{3,8}$", description="A short code.")]


class Link(msgspec.Struct):
    """A code and where it leads."""

    code: Code
    target: str
    visits: Annotated[int, msgspec.Meta(ge=0)] = 0


class NewLink(msgspec.Struct, forbid_unknown_fields=True):
    target: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    code: Code | None = None
    rules: list[dict[str, int]] = []
    anything: Any = None


class Search(PageQuery, frozen=True, kw_only=True):
    term: str | None = None
    tag: list[str] = msgspec.field(default_factory=list)
    order: Literal["age", "visits"] = "age"


class Taken(Conflict):
    type, title = "links/taken", "That code belongs to another link"


links = Routes("links")


@links.get("/links")
async def search(query: Search) -> Page[Link]:
    """Finds links.

    Newest first; `term` is looked for in target and code.
    """
    return Page([Link("abc", query.term or "", 1)], None)


@links.post("/links", status=201, idempotent=True, problems=[Taken])
async def create(body: NewLink, once: Once | None) -> Link:
    if body.code == "aaa":
        raise Taken
    return Link(body.code or "abc", body.target)


@links.get("/links/{code}", public=True, etag=True)
async def show(code: Code) -> Link | Response:
    return Link(code, "there")


@links.delete("/links/{code}")
async def remove(code: Code) -> None: ...


@links.get("/visits/{number}/{ratio}")
async def visits(number: int, ratio: float) -> dict[str, float]:
    return {"number": number, "ratio": ratio}


@links.put("/links/{code}/image")
async def put_image(code: str, body: bytes) -> None: ...


@links.post("/upload")
async def upload(body: Form) -> list[str]:
    return [name for name, _ in body.fields]


@links.patch("/links/{code}")
async def change(code: str, body: dict[str, str | None] | None) -> None: ...


@links.get("/export", produces="text/csv")
async def export(request: Request) -> Stream:
    async def rows() -> Any:
        yield b"a,b\n"

    return Stream(rows(), "text/csv")


@links.get("/files/{rest:path}", produces="image/png")
async def file(rest: str) -> Response:
    return Response(200, b"\x89PNG", "image/png")


other = Routes("other")


class Holder(msgspec.Struct, Generic[T]):
    value: T


@other.get("/links")
async def other_links() -> list[Holder[int]]:
    return [Holder(1)]


def other_link() -> type[msgspec.Struct]:
    class Link(msgspec.Struct):
        name: str

    return Link


OtherLink = other_link()


@other.get("/link")
async def one_other_link() -> OtherLink:  # type: ignore[valid-type]
    return OtherLink("x")


DOCUMENT = links.openapi()


def operation(method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][f"/api/links{path}"][method]
    return found


@pytest.mark.parametrize("document", [DOCUMENT, describe([links, other])])
def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(document).validate()
    assert msgspec.json.decode(msgspec.json.encode(document)) == document


def test_an_operation_tells_its_purpose_scope_and_answers() -> None:
    search = operation("get", "/links")
    assert search["operationId"] == "links.search"
    assert search["summary"] == "Finds links."
    assert search["description"].startswith("Newest first")
    assert search["security"] == [{"token": ["links:read"]}, {"session": ["links:read"]}]
    assert operation("post", "/links")["security"][0] == {"token": ["links:write"]}
    assert operation("get", "/links/{code}")["security"] == []
    answer = search["responses"]["200"]["content"]["application/json"]["schema"]
    page = DOCUMENT["components"]["schemas"][answer["$ref"].rpartition("/")[2]]
    assert page["properties"]["items"] == {"type": "array", "items": {"$ref": "#/components/schemas/Link"}}
    assert operation("delete", "/links/{code}")["responses"]["204"] == {"description": "No Content"}
    assert operation("get", "/export")["responses"]["200"]["content"] == {"text/csv": {"schema": {"type": "string"}}}
    assert "/api/links/files/{rest}" in DOCUMENT["paths"]


def test_every_problem_that_binding_can_answer_is_declared() -> None:
    create = operation("post", "/links")["responses"]
    assert set(create) == {"201", "400", "401", "403", "404", "405", "409", "413", "415", "422", "default"}
    assert create["409"]["description"] == "That code belongs to another link (`/problems/links/taken`)"
    assert set(operation("get", "/links/{code}")["responses"]) == {"200", "304", "400", "404", "405", "422", "default"}
    for response in (create["400"], create["422"], create["default"]):
        schema = response["content"]["application/problem+json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/ProblemDetails"}


def test_the_ways_to_authenticate_are_those_of_accounts() -> None:
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert schemes["session"]["name"] == COOKIE and schemes["token"]["scheme"] == "bearer"


def test_parameters_are_described_by_their_types() -> None:
    query = {one["name"]: one for one in operation("get", "/links")["parameters"]}
    assert query["limit"]["schema"] == {
        "type": "integer", "minimum": 1, "maximum": 100, "default": 50, "description": "How many at most.",
    }  # fmt: skip
    assert query["term"]["schema"] == {"type": "string"} and not query["term"]["required"]
    assert query["tag"]["schema"]["type"] == "array"
    assert query["order"]["schema"]["enum"] == ["age", "visits"]
    code, number = (
        operation("get", "/links/{code}")["parameters"][0],
        operation("get", "/visits/{number}/{ratio}")["parameters"][0],
    )
    assert code["required"] and code["schema"]["pattern"] == "^[a-z]{3,8}$"
    assert number["schema"] == {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
    assert operation("post", "/links")["parameters"][0]["name"] == "Idempotency-Key"
    assert "Search" not in DOCUMENT["components"]["schemas"]


def test_bodies_are_described_by_what_is_read() -> None:
    assert operation("post", "/links")["requestBody"]["required"]
    assert not operation("patch", "/links/{code}")["requestBody"]["required"]
    assert operation("put", "/links/{code}/image")["requestBody"]["content"] == {"application/octet-stream": {}}
    assert set(operation("post", "/upload")["requestBody"]["content"]) == {
        "multipart/form-data",
        "application/x-www-form-urlencoded",
    }


def test_types_of_one_name_in_two_systems_are_told_apart() -> None:
    document = describe([links, other])
    titles = [name for name in document["components"]["schemas"] if name.endswith("Link") and "New" not in name]
    assert len(titles) == 2
    assert set(document["paths"]) > {"/api/links/links", "/api/other/links"}


async def authenticate(request: Request) -> Caller:
    match request.header("authorization"):
        case None:
            return ANONYMOUS
        case "Bearer fuzzer":
            return Caller(1, "fuzzer", "token", frozenset({"links:*"}))
        case _:
            raise Unauthenticated


async def document(request: Request) -> Response:
    return Response.json(DOCUMENT)


API, DESCRIPTION = links.application({}, authenticate), asgi(document)


async def described(scope: Any, receive: Any, send: Any) -> None:
    await (DESCRIPTION if scope["path"] == "/openapi.json" else API)(scope, receive, send)


schema = schemathesis.openapi.from_asgi("/openapi.json", described)


@schema.auth()
class Fuzzer:
    def get(self, case: schemathesis.Case, context: schemathesis.AuthContext) -> str:
        return "Bearer fuzzer"

    def set(self, case: schemathesis.Case, data: str, context: schemathesis.AuthContext) -> None:
        case.headers["authorization"] = data


@schema.parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_whatever_a_fuzzer_sends_is_answered_as_described(case: schemathesis.Case) -> None:
    # A query and a form have only text: what breaks the schema there may mean something valid once it is written.
    case.call_and_validate(excluded_checks=[negative_data_rejection])
