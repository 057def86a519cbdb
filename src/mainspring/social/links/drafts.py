"""What a caller asked for, checked and turned into what may be stored: targets, aliases, rules, times, passwords."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import UNSET

from mainspring.core.accounts import Caller
from mainspring.core.accounts.passwords import Passwords
from mainspring.core.problems import Forbidden, Invalid
from mainspring.social.links import codes
from mainspring.social.links import rules as redirect_rules
from mainspring.social.links.domains import Domain, Domains
from mainspring.social.links.model import REDIRECTS, InvalidAlias, Link, LinkEdit, NewLink, State
from mainspring.social.links.rules import Rule
from mainspring.social.links.settings import LinksSettings
from mainspring.social.links.targets import BlockedDomains, checked, with_utm

ADMIN = "links:admin"
"""Held by whoever holds `links:*`: sees and changes everybody's links, and judges reports."""


def must_be_admin(by: Caller) -> None:
    if not by.may(ADMIN):
        raise Forbidden(f"This needs {ADMIN}, which links:* contains")


class Drafts:
    """Checks what is wanted against the settings. Every method raises the problem that names the field."""

    def __init__(self, settings: LinksSettings, domains: Domains, passwords: Passwords) -> None:
        self._settings, self._domains, self.passwords = settings, domains, passwords
        file = settings.blocked_domains_file
        self._blocked = BlockedDomains(Path(file)) if file else None

    async def link(self, new: NewLink, by: Caller, id: int, created_us: int) -> Link:
        """The link that `new` describes; its code is the alias, or empty."""
        domain = self._domains.named(new.domain)
        target = self._checked(new.url) if self._blocked is None else await self.target(new.url)
        visits_left = new.max_visits
        archived = False
        # By place: of more than fifteen named arguments Python makes a dictionary first, which doubles the work.
        return Link(
            id,
            domain.id,
            "" if new.alias is None else self.alias(new.alias, domain),
            with_utm(target, new.utm) if new.utm else target,
            State.active,
            _redirect(new.redirect),
            _instant(new.valid_since, "/valid_since"),
            _instant(new.valid_until, "/valid_until"),
            new.max_visits,
            visits_left,
            None if new.password is None else await self._hashed(new.password),
            await self._rules(new.rules) if new.rules else (),
            new.forward_query,
            new.crawlable,
            by.account_id,
            new.title,
            new.notes,
            new.folder,
            _tags(new.tags) if new.tags else (),
            new.card,
            archived,
            created_us,
        )

    async def changes(self, edit: LinkEdit, before: Link, by: Caller) -> dict[str, Any]:
        """The fields of `Link` that `edit` changes."""
        plain = ("title", "notes", "folder", "forward_query", "crawlable", "card", "archived", "max_visits")
        changes = {name: value for name in plain if (value := getattr(edit, name)) is not UNSET}
        if edit.url is not UNSET:
            changes["target"] = await self.target(edit.url)
        if edit.tags is not UNSET:
            changes["tags"] = _tags(edit.tags)
        if edit.redirect is not UNSET:
            changes["redirect"] = _redirect(edit.redirect)
        if edit.rules is not UNSET:
            changes["rules"] = await self._rules(edit.rules)
        if edit.valid_since is not UNSET:
            changes["valid_since_us"] = _instant(edit.valid_since, "/valid_since")
        if edit.valid_until is not UNSET:
            changes["valid_until_us"] = _instant(edit.valid_until, "/valid_until")
        if edit.password is not UNSET:
            changes["password"] = None if edit.password is None else await self._hashed(edit.password)
        if edit.state is not UNSET:
            changes["state"] = _state(edit.state, before, by)
        if edit.owner is not UNSET:
            changes["owner"] = edit.owner
        return changes

    def alias(self, alias: str, domain: Domain) -> str:
        settings = self._settings
        reason = codes.alias_fault(alias, unicode=settings.unicode_aliases, segments_max=settings.alias_segments_max)
        if reason is not None:
            raise InvalidAlias(reason, pointer="/alias")
        return alias.lower() if domain.folds_case else alias

    async def target(self, url: str) -> str:
        target = self._checked(url)
        if self._blocked is not None:
            await self._blocked.refuse(target)
        return target

    def _checked(self, url: str) -> str:
        settings = self._settings
        return checked(url, schemes=settings.schemes, own=self._domains.hosts, private=settings.private_targets)

    async def _rules(self, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        """The rules with their targets checked as a link's own are; these must be written as they will be sent."""
        if wrong := redirect_rules.fault(rules):
            raise Invalid(wrong[1], pointer=wrong[0])
        for target in redirect_rules.targets_of(rules):
            if await self.target(target) != target:
                raise Invalid(f"Write it as {await self.target(target)}", pointer="/rules")
        return rules

    async def _hashed(self, password: str) -> str:
        return await self.passwords.hash(password.encode())


def _redirect(status: int) -> int:
    if status not in REDIRECTS:
        raise Invalid(f"A redirect is one of {', '.join(map(str, REDIRECTS))}", pointer="/redirect")
    return status


def _instant(text: str | None, pointer: str) -> int | None:
    if text is None:
        return None
    try:
        return redirect_rules.instant_us(text)
    except (ValueError, OverflowError):
        raise Invalid("Write an instant as RFC 3339 does: 2026-01-31T12:00:00Z", pointer=pointer) from None


def _tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Tags as they are stored: lower case, hyphens for spaces, each once."""
    return tuple(dict.fromkeys(cleaned for tag in tags if (cleaned := "-".join(tag.lower().split()))))


def _state(name: str, before: Link, by: Caller) -> State:
    """An owner may switch a link off; everything else about its state is an operator's to judge."""
    if name not in ("active", "suspect", "disabled", "legal"):
        raise Invalid("A state is active, suspect, disabled or legal", pointer="/state")
    if not by.may(ADMIN) and name != "disabled" and name != before.state.name:
        raise Forbidden(f"Only {ADMIN} can do this")
    return State[name]
