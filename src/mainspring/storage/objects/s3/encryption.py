"""Headers of encryption at rest: what a request asks for, and what an answer says of an object that is sealed."""

from typing import Any

from mainspring.storage.objects.model import Object
from mainspring.storage.objects.s3.answers import Header
from mainspring.storage.objects.s3.call import Call


def asked(call: Call) -> dict[str, Any]:
    return {}


def opening(call: Call) -> dict[str, Any]:
    return {}


def must_open(call: Call, object: Object) -> None:
    return None


def of_object(object: Object) -> list[Header]:
    return []
