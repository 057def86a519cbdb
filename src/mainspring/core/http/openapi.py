"""OpenAPI 3.1 from the same signatures that requests are bound by, for one system or for many at once.

Names of components are those of their types; where two systems call a type the same, both names become qualified. So a
document for many systems is made in one go and never by joining those of each.
"""

import inspect
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from mainspring.core.http.binding import IDEMPOTENCY_KEY
from mainspring.core.http.forms import Form
from mainspring.core.http.operation import Operation
from mainspring.core.http.router import WEBSOCKET
from mainspring.core.http.routes import Routes

COMPONENT = "#/components/schemas/"
PROBLEM = "application/problem+json"

SECURITY = {
    "token": {"type": "http", "scheme": "bearer", "description": "An API token with the scope named."},
    "session": {"type": "apiKey", "in": "cookie", "name": "ms_session", "description": "The console's."},
}
KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same request gets the first answer again, for 24 hours, and changes nothing.",
    "schema": {"type": "string", "pattern": f"^{IDEMPOTENCY_KEY}$"},
}


class ProblemDetails(msgspec.Struct):
    """What went wrong, as RFC 9457 says; more members may follow. `pointer` names the field that is not valid."""

    type: str
    title: str
    status: int
    detail: str
    pointer: str | msgspec.UnsetType = msgspec.UNSET


class _Schemas:
    """The schemas of all types of a document, named together."""

    def __init__(self, kinds: Sequence[Any]) -> None:
        made, self.components = msgspec.json.schema_components(kinds, ref_template=COMPONENT + "{name}")
        self._made = {id(kind): schema for kind, schema in zip(kinds, made, strict=True)}

    def of(self, kind: Any) -> dict[str, Any]:
        return self._made[id(kind)]

    def name_of(self, kind: Any) -> str:
        reference: str = self.of(kind)["$ref"]
        return reference.removeprefix(COMPONENT)


def describe(routes: Sequence[Routes], title: str = "Mainspring", version: str = "1") -> dict[str, Any]:
    """The OpenAPI 3.1 document of these systems' operations."""
    operations = [(one.system, operation) for one in routes for operation in one.operations]
    operations = [(system, operation) for system, operation in operations if operation.method != WEBSOCKET]
    schemas = _Schemas([ProblemDetails, *(kind for _, operation in operations for kind in _kinds(operation))])
    paths: dict[str, dict[str, Any]] = {}
    for system, operation in operations:
        path = f"/api/{system}{operation.template}".replace(":path}", "}")
        paths.setdefault(path, {})[operation.method.lower()] = _operation(system, operation, schemas)
    queries = {schemas.name_of(operation.query) for _, operation in operations if operation.query is not None}
    bodies = {schemas.of(kind).get("$ref") for _, operation in operations for kind in _json_kinds(operation)}
    components = {
        name: schema for name, schema in schemas.components.items() if name not in queries or COMPONENT + name in bodies
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "servers": [{"url": "/"}],
        "tags": [{"name": one.system} for one in routes],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": SECURITY},
    }


def _kinds(operation: Operation) -> list[Any]:
    kinds = [*operation.path.values(), *_json_kinds(operation)]
    return kinds if operation.query is None else [*kinds, operation.query]


def _json_kinds(operation: Operation) -> list[Any]:
    kinds = [] if operation.body in (None, bytes, Form) else [operation.body]
    return kinds if operation.answer is None else [*kinds, operation.answer]


def _operation(system: str, operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    summary, _, more = inspect.cleandoc(operation.function.__doc__ or operation.name.replace("_", " ")).partition("\n")
    described: dict[str, Any] = {"operationId": f"{system}.{operation.name}", "tags": [system], "summary": summary}
    if more.strip():
        described["description"] = more.strip()
    scopes = [] if operation.scope is None else [operation.scope]
    described["security"] = [{"token": scopes}, {"session": scopes}] if scopes else []
    parameters = [_path_parameter(name, schemas.of(kind)) for name, kind in operation.path.items()]
    if operation.query is not None:
        parameters += _query_parameters(operation, schemas)
    if operation.idempotent:
        parameters.append(KEY_PARAMETER)
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        # Bytes may be none at all.
        required = not operation.body_optional and operation.body is not bytes
        described["requestBody"] = {"required": required, "content": _body(operation, schemas)}
    described["responses"] = _responses(operation, schemas)
    return described


def _path_parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") == "string" and "enum" not in schema and "format" not in schema:
        schema = {"minLength": 1, **schema}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(operation: Operation, schemas: _Schemas) -> list[dict[str, Any]]:
    struct = schemas.components[schemas.name_of(operation.query)]
    parameters = []
    for name, schema in struct["properties"].items():
        # A query has no null: a field is there or it is not.
        options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
        if len(options) == 1:
            schema = {**{key: value for key, value in schema.items() if key != "anyOf"}, **options[0]}
        if schema.get("default", "") is None:
            schema = {key: value for key, value in schema.items() if key != "default"}
        parameter = {"name": name, "in": "query", "required": name in struct["required"], "schema": schema}
        if description := schema.get("description"):
            parameter["description"] = description
        parameters.append(parameter)
    return parameters


def _body(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    if operation.body is bytes:
        return {"application/octet-stream": {}}
    if operation.body is Form:
        form = {"schema": {"type": "object"}}
        return {"multipart/form-data": form, "application/x-www-form-urlencoded": form}
    return {"application/json": {"schema": schemas.of(operation.body)}}


def _responses(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    success: dict[str, Any] = {"description": _phrase(operation.status)}
    if operation.answer is not None:
        success["content"] = {"application/json": {"schema": schemas.of(operation.answer)}}
    elif operation.produces and operation.status != 204:
        schema = {"schema": {"type": "string"}} if operation.produces.startswith("text/") else {}
        success["content"] = {operation.produces: schema}
    responses: dict[str, Any] = {str(operation.status): success}
    if operation.etag:
        success["headers"] = {"ETag": {"schema": {"type": "string"}}}
        responses["304"] = {"description": _phrase(304)}
    titles: dict[int, list[str]] = {status: [] for status in _usual(operation)}
    for problem in operation.problems:
        titles.setdefault(problem.status, []).append(f"{problem.title} (`/problems/{problem.type}`)")
    content = {PROBLEM: {"schema": schemas.of(ProblemDetails)}}
    for status in sorted(titles):
        description = "; ".join(titles[status]) or _phrase(status)
        responses[str(status)] = {"description": description, "content": content}
    responses["default"] = {"description": "Any other problem", "content": content}
    return responses


def _usual(operation: Operation) -> set[int]:
    """The problems that binding itself may answer with."""
    statuses = {400, 404, 405}
    if operation.scope is not None:
        statuses |= {401, 403}
    if operation.body is not None:
        statuses |= {413, 415, 422}
    if operation.query is not None or operation.path or operation.idempotent:
        statuses.add(422)
    return statuses


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase
