"""Requests that carry credentials."""

import base64
from typing import Any

from mainspring.core.http.request import Request
from tests.asgi import http_scope


async def nothing() -> dict[str, Any]:
    return {"type": "http.disconnect"}


def request(method: str = "GET", headers: dict[str, str] | None = None, **more: Any) -> Request:
    return Request(http_scope(method, "/", headers or {}, **more), nothing)


def bearer(secret: str) -> Request:
    return request(headers={"authorization": f"Bearer {secret}"})


def api_key(secret: str) -> Request:
    return request(headers={"x-api-key": secret})


def basic(name: str, secret: str) -> Request:
    return request(headers={"authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()})


def cookie(secret: str, method: str = "GET", **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(method, {"cookie": f"theme=dark; ms_session={secret}"} | named)
