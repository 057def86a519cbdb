"""What a caller asked for, checked and turned into what may be stored: pastes, their versions and bodies. No I/O.

Every function raises the problem that names the field. `bytes_max` is what a body of the caller may have.
"""

import msgspec
from msgspec import UNSET

from mainspring.core.problems import Invalid
from mainspring.social.links.paste_language import guess
from mainspring.social.links.paste_model import (
    FORMATTERS,
    Format,
    InvalidSeal,
    NewPaste,
    NotEditable,
    Paste,
    PasteEdit,
    Sealed,
    Version,
    check_cipher,
    cipher_text,
    ends_us,
    text_bytes,
    title_text,
)


def first(
    new: NewPaste, id: str, number: int, owner: int | None, bytes_max: int, now_us: int
) -> tuple[Paste, Version, bytes]:
    """The paste that `new` describes, without its password's hash, with its first version and that one's body."""
    if new.visibility == "private" and owner is None:
        raise Invalid("Only an account can have private pastes", pointer="/visibility")
    burns, verifier, discussion = new.burn_after, None, False
    if new.sealed is None:
        version, body = plain(new.body, new.format, new.language, 1, bytes_max, now_us)
    else:
        if new.body or new.password or new.title:
            raise Invalid("A sealed paste has its text, title and password inside", pointer="/sealed")
        version, body = sealed(new.sealed, 1, bytes_max, now_us)
        burns = new.burn_after or new.sealed.adata[3] or None
        verifier = bytes.fromhex(new.sealed.verifier) if new.sealed.verifier else None
        discussion = new.sealed.adata[2] == 1
        if discussion and (burns or verifier):
            raise InvalidSeal("What burns or asks for a proof cannot be discussed", pointer="/adata")
    paste = Paste(
        id=id,
        number=number,
        owner=owner,
        title=title_text(new.title),
        visibility=new.visibility,
        sealed=new.sealed is not None,
        verifier=verifier,
        discussion=discussion,
        reads_left=burns,
        created_us=now_us,
        ends_us=ends_us(new.expire, now_us),
    )
    return paste, version, body


def following(
    edit: PasteEdit, before: Paste, version: Version, bytes_max: int, now_us: int
) -> tuple[Version | None, bytes]:
    """The version that an edit makes of the body that it brings; None where it brings none."""
    if before.sealed:
        return _resealed(edit, before, version, bytes_max, now_us)
    if edit.sealed is not UNSET:
        raise NotEditable("A plain paste stays one")
    if edit.body is UNSET:
        return None, b""
    if before.reads_left is not None:
        raise NotEditable("What burns is not changed")
    format = version.format if edit.format is UNSET else edit.format
    language = version.language if edit.language is UNSET else edit.language
    return plain(edit.body, format, language, version.number + 1, bytes_max, now_us)


def _resealed(
    edit: PasteEdit, before: Paste, version: Version, bytes_max: int, now_us: int
) -> tuple[Version | None, bytes]:
    if not (edit.body is edit.format is edit.language is edit.title is UNSET):
        raise NotEditable("A sealed paste is changed by another sealed body only")
    if edit.sealed is UNSET:
        return None, b""
    if before.reads_left is not None:
        raise NotEditable("What burns is not changed")
    if edit.sealed.verifier is not None or edit.sealed.adata[2] != int(before.discussion) or edit.sealed.adata[3]:
        raise NotEditable("Its key, and what it allows, stay")
    return sealed(edit.sealed, version.number + 1, bytes_max, now_us)


def edited(before: Paste, edit: PasteEdit, version: Version | None, now_us: int) -> Paste:
    """`before` with what `edit` changes beside the body, at the version that it makes."""
    return msgspec.structs.replace(
        before,
        title=before.title if edit.title is UNSET else title_text(edit.title),
        visibility=before.visibility if edit.visibility is UNSET else edit.visibility,
        ends_us=before.ends_us if edit.expire is UNSET else ends_us(edit.expire, now_us),
        version=before.version if version is None else version.number,
    )


def plain(text: str, format: Format, language: str, number: int, bytes_max: int, now_us: int) -> tuple[Version, bytes]:
    """A version that is text; code without a language gets the one that it looks like."""
    body = text_bytes(text, bytes_max)
    if not body:
        raise Invalid("There is no text in it", pointer="/body")
    if format == "code" and not language:
        language = guess(text)
    return Version(number, format, language.lower(), None, len(body), now_us), body


def sealed(one: Sealed, number: int, bytes_max: int, now_us: int) -> tuple[Version, bytes]:
    """A version that is cipher text."""
    check_cipher(one.adata[0])
    body = cipher_text(one.ct, bytes_max)
    return Version(number, FORMATTERS[one.adata[1]], "", msgspec.to_builtins(one.adata), len(body), now_us), body
