"""The event of a mutation: written in the mutation's own transaction, one for each, in one ordered topic per bucket."""

import msgspec

from mainspring.core.ports import Connection


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """`name` as S3 has it without its prefix, such as `ObjectCreated:Put`; `seq` orders the events of a key."""

    name: str
    bucket: str
    key: str
    seq: int
    version: str = ""
    size: int = 0
    etag: str = ""
    source: str = ""


_encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Event).decode


def topic(bucket: str) -> str:
    """The topic of a bucket's events."""
    return f"objects.{bucket}"


def emit(
    connection: Connection,
    bucket: str,
    name: str,
    key: str,
    seq: int,
    version: str,
    size: int,
    etag: str,
    source: str = "",
) -> None:
    """Notes an event; it is told if and only if the transaction commits."""
    event = Event(name, bucket, key, seq, version, size, etag, source)
    connection.emit(topic(bucket), _encode(event), key.encode())
