"""Forms as browsers and `curl -F` send them: named texts and files, within limits."""

from typing import Any

import msgspec

from mainspring.core.problems import Malformed, TooLarge

PARTS_MAX = 100
NAME_LETTERS_MAX = 1_000


class Upload(msgspec.Struct, frozen=True):
    """One file of a form. `filename` and `content_type` are whatever the client claimed."""

    name: str
    filename: str
    content_type: str
    body: bytes


class Form(msgspec.Struct, frozen=True):
    """A form's texts and files in the order they were sent."""

    fields: list[tuple[str, str]]
    files: list[Upload]

    def get(self, name: str) -> str | None:
        """The last text called `name`, or None."""
        return dict(self.fields).get(name)

    def file(self, name: str) -> Upload | None:
        """The first file called `name`, or None."""
        return next((upload for upload in self.files if upload.name == name), None)


def parse_multipart(content_type: str, body: bytes) -> Form:
    """Reads a whole `multipart/form-data` body (RFC 7578).

    Raises `Malformed` for one that breaks the format or a text that is no UTF-8, `TooLarge` beyond 100 parts.
    """
    # Here, because most processes never see a form and the import takes 20 ms.
    from multipart import (  # type: ignore[import-untyped]
        MultipartError,
        MultipartSegment,
        ParserLimitReached,
        PushMultipartParser,
        parse_options_header,
    )

    boundary = parse_options_header(content_type)[1].get("boundary", "")
    form = Form([], [])
    try:
        parser = PushMultipartParser(boundary, content_length=len(body), max_segment_count=PARTS_MAX, strict=True)
        with parser:
            pieces: list[bytes] = []
            for event in parser.parse(body):
                if isinstance(event, MultipartSegment):
                    segment, pieces = event, []
                elif event is None:
                    _take(form, segment, b"".join(pieces))
                else:
                    pieces.append(event)
            list(parser.parse(b""))
    except ParserLimitReached as error:
        raise TooLarge(str(error)) from None
    except (MultipartError, ValueError) as error:
        raise Malformed(f"The form could not be read: {error}", pointer="/body") from None
    return form


def _take(form: Form, segment: Any, body: bytes) -> None:
    if len(segment.name) > NAME_LETTERS_MAX:
        raise ValueError("a field's name is too long")
    if segment.filename is None:
        form.fields.append((segment.name, body.decode()))
    else:
        content_type = segment.content_type or "application/octet-stream"
        form.files.append(Upload(segment.name, segment.filename, content_type, body))
