"""Short links with rules, limits and honest counts; pastes that only their readers can read.

The face is light: its names are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from mainspring.core.faces import lazily

if TYPE_CHECKING:
    from mainspring.social.links.model import Link, LinkEdit, NewLink
    from mainspring.social.links.paste_model import NewPaste, PasteEdit, Proof, Sealed
    from mainspring.social.links.pastes import Pastes
    from mainspring.social.links.rules import Condition, Rule, Variant, Visitor
    from mainspring.social.links.service import Links
    from mainspring.social.links.settings import LinksSettings

__all__ = [
    "Condition",
    "Link",
    "LinkEdit",
    "Links",
    "LinksSettings",
    "NewLink",
    "NewPaste",
    "PasteEdit",
    "Pastes",
    "Proof",
    "Rule",
    "Sealed",
    "Variant",
    "Visitor",
]

_HOMES = {
    "Links": "service",
    "LinksSettings": "settings",
    **dict.fromkeys(("Link", "LinkEdit", "NewLink"), "model"),
    "Pastes": "pastes",
    **dict.fromkeys(("NewPaste", "PasteEdit", "Proof", "Sealed"), "paste_model"),
    **dict.fromkeys(("Condition", "Rule", "Variant", "Visitor"), "rules"),
}


__getattr__ = lazily(__name__, _HOMES)
