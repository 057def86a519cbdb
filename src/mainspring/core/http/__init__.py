"""HTTP of our own over bare ASGI: requests and answers, typed routes, manners, pages and conditions."""

from mainspring.core.http.forms import Form, Upload
from mainspring.core.http.request import Channel, Disconnected, Request, UnsupportedMediaType
from mainspring.core.http.response import Answer, Response, Stream, problem_response
from mainspring.core.http.router import MethodNotAllowed, Router, asgi
from mainspring.core.http.routes import Routes

__all__ = [
    "Answer",
    "Channel",
    "Disconnected",
    "Form",
    "MethodNotAllowed",
    "Request",
    "Response",
    "Router",
    "Routes",
    "Stream",
    "UnsupportedMediaType",
    "Upload",
    "asgi",
    "problem_response",
]
