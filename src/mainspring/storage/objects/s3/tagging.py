"""Tags of objects and buckets: from a header, from XML, and back."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.xml import Node, document, escaped

OBJECT_TAGS_MAX = 10
BUCKET_TAGS_MAX = 50
NAME_LETTERS_MAX = 128
VALUE_LETTERS_MAX = 256


def tags_in_header(text: str | None) -> dict[str, str]:
    """The tags of `x-amz-tagging`. Raises `InvalidArgument`, `InvalidTag`, `BadRequest` for over ten."""
    if not text:
        return {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise S3Error(
            "InvalidArgument",
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without "
            "tag name duplicates.",
        ) from None
    return checked(pairs, OBJECT_TAGS_MAX)


def tags_in_document(root: Node, most: int) -> dict[str, str]:
    """The tags of a `Tagging` document. Raises `MalformedXML` and as above."""
    listed = root.one("TagSet")
    if listed is None or any(
        one.name != "Tag" or one.one("Key") is None or one.one("Value") is None for one in listed.children
    ):
        raise S3Error("MalformedXML")
    return checked([(tag.get("Key"), tag.get("Value")) for tag in listed.all("Tag")], most)


def checked(pairs: list[tuple[str, str]], most: int) -> dict[str, str]:
    if len(pairs) > most:
        raise S3Error("BadRequest", f"Object tags cannot be greater than {most}")
    for name, value in pairs:
        if not 1 <= len(name) <= NAME_LETTERS_MAX:
            raise S3Error("InvalidTag", "The TagKey you have provided is invalid")
        if len(value) > VALUE_LETTERS_MAX:
            raise S3Error("InvalidTag", "The TagValue you have provided is invalid")
    if len(dict(pairs)) != len(pairs):
        raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key")
    return dict(pairs)


def tagging(tags: Mapping[str, str]) -> str:
    inner = "".join(
        f"<Tag><Key>{escaped(name)}</Key><Value>{escaped(value)}</Value></Tag>" for name, value in tags.items()
    )
    return document("Tagging", f"<TagSet>{inner}</TagSet>")
