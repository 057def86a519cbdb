"""When a request has no answer: what Kafka does too is to close the connection."""

from typing import Any


class Disconnect(Exception):
    """The connection is closed; the text is for our log."""


def failure_code(error: BaseException) -> int | None:
    """The protocol's code of an error of the engine or a coordinator, None where it is a fault of ours."""
    code: Any = getattr(error, "kafka_code", None)
    return code if isinstance(code, int) else None
