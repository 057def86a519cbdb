"""A form with a file as it arrives (`multipart/form-data`, RFC 7578): the fields first, whole; then the file, streamed.

Pieces of the body go in, pieces of the file come out; what may be the beginning of a boundary is held back until more is
there. Fields before the file are bounded together, fields after it are ignored, as S3 does.
"""

import re

from mainspring.storage.objects.s3.errors import S3Error

FIELDS_BYTES_MAX = 20 << 10
FIELDS_MAX = 100
HEAD_BYTES_MAX = 4 << 10
_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,70})"|([^\s;]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb'[;\s]name="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_FILE = re.compile(rb'[;\s]filename="((?:[^"\\]|\\.)*)"', re.IGNORECASE)


def boundary_of(content_type: str) -> bytes:
    """Raises `MalformedPOSTRequest`."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise S3Error("MalformedPOSTRequest")
    return (found[1] or found[2]).encode("latin-1")


class FormReader:
    """`fields` (lower-case names) and `filename` are complete once `in_file`; `finished` after the file's last byte."""

    def __init__(self, boundary: bytes) -> None:
        self.fields: dict[str, str] = {}
        self.filename = ""
        self.file_type = ""
        self.in_file = False
        self.finished = False
        self._mark = b"\r\n--" + boundary
        # The first boundary has no line before it; with one in front all are alike.
        self._buffer = bytearray(b"\r\n")
        self._begun = False
        self._taken = 0

    def feed(self, data: bytes) -> bytes:
        """Takes a piece of the body and gives what it holds of the file."""
        if self.finished:
            return b""
        self._buffer += data
        if not self.in_file:
            self._taken += len(data)
            self._read_fields()
        return self._read_file() if self.in_file and not self.finished else b""

    def _read_fields(self) -> None:
        while not self.in_file:
            if not self._begun:
                if len(self._buffer) < len(self._mark) + 2:
                    return
                if not self._buffer.startswith(self._mark):
                    raise S3Error("MalformedPOSTRequest")
                del self._buffer[: len(self._mark)]
                self._begun = True
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                self._bound(HEAD_BYTES_MAX)
                return
            head = bytes(self._buffer[:end])
            named = _NAME.search(head)
            if not head.startswith(b"\r\n") or named is None or end > HEAD_BYTES_MAX:
                raise S3Error("MalformedPOSTRequest")
            name = _text(named[1]).lower()
            if name == "file":
                filename = _FILE.search(head)
                self.filename = _text(filename[1]) if filename is not None else ""
                kind = re.search(rb"\r\ncontent-type:[ \t]*([^\r\n]{1,200})", head, re.IGNORECASE)
                self.file_type = _text(kind[1]) if kind is not None else ""
                del self._buffer[: end + 4]
                self.in_file = True
                return
            stop = self._buffer.find(self._mark, end + 2)
            if stop < 0:
                self._bound(FIELDS_BYTES_MAX)
                return
            if len(self.fields) >= FIELDS_MAX or self._taken - len(self._buffer) + stop > FIELDS_BYTES_MAX:
                raise S3Error("MaxPostPreDataLengthExceededError")
            self.fields[name] = _text(bytes(self._buffer[end + 4 : stop]))
            del self._buffer[: stop + len(self._mark)]

    def _bound(self, most: int) -> None:
        if len(self._buffer) > most:
            raise S3Error("MaxPostPreDataLengthExceededError")

    def _read_file(self) -> bytes:
        stop = self._buffer.find(self._mark)
        if stop >= 0:
            self.finished = True
            file = bytes(self._buffer[:stop])
            self._buffer.clear()
            return file
        safe = len(self._buffer) - len(self._mark)
        if safe <= 0:
            return b""
        file = bytes(self._buffer[:safe])
        del self._buffer[:safe]
        return file


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
