"""`Pastes`: what other code calls. Keeps texts and sealed secrets, gives them to who may read them, and forgets them.

Whether a paste can be read is decided by its row and the clock at the moment of the reading. A read of one that burns is
spent in a transaction of its own, which is durable before the first byte of the body goes anywhere: wherever the process
dies, no more readers get it than were allowed. `sweep` deletes what has ended, and sees that the disk forgets it as well.
"""

import asyncio
import logging
from collections.abc import Sequence
from secrets import token_bytes, token_hex
from typing import Any

import msgspec
from msgspec import UNSET

from mainspring.core import once as idempotency
from mainspring.core.accounts import Caller
from mainspring.core.accounts.passwords import Passwords
from mainspring.core.clock import Clock
from mainspring.core.once import Once
from mainspring.core.ports import Cache, Connection, Database
from mainspring.core.problems import Forbidden, Invalid, Unauthenticated
from mainspring.core.telemetry import Metrics
from mainspring.primitives.ids import Ids
from mainspring.primitives.limiter import Limiter
from mainspring.social.links import paste_diff, paste_drafts, paste_store
from mainspring.social.links.drafts import ADMIN
from mainspring.social.links.issuer import deployment_key
from mainspring.social.links.paste_language import guess
from mainspring.social.links.paste_model import (
    COMMENT_BYTES_MAX,
    NONCE_US,
    Cipher,
    Comment,
    File,
    Format,
    MustReveal,
    NewPaste,
    NotEditable,
    Paste,
    PasteEdit,
    Proof,
    UnknownPaste,
    Version,
    WrongProof,
    WrongToken,
    check_cipher,
    cipher_text,
    delete_token,
    ends_us,
    is_delete_token,
    is_mac,
    is_nonce,
    new_nonce,
    title_text,
    within,
)
from mainspring.social.links.paste_renderer import Renderer
from mainspring.social.links.paste_store import Found
from mainspring.social.links.service import LOCAL
from mainspring.social.links.settings import LinksSettings
from mainspring.social.links.visitors import limit_key

SEARCHED_BYTES_MAX = 16 << 20
SCRUB_TRIES = 30
DROPS_A_SWEEP = 2_000

log = logging.getLogger(__name__)


class Made(msgspec.Struct, frozen=True):
    """A paste that was made, as an idempotency key remembers it."""

    id: str
    sealed: bool
    created_us: int
    ends_us: int


class Revealed(msgspec.Struct, frozen=True):
    """A body with what it belongs to, as it was after this reading."""

    paste: Paste
    version: Version
    body: bytes

    @property
    def text(self) -> str:
        """The text of a plain paste."""
        return self.body.decode()


class Pastes:
    """Texts and sealed secrets that are read so often and so long as their sender allows.

    By hand: prepare the tables, `start`, and `stop` at the end. A paste that is not there, has ended, or is private to
    somebody else is an `UnknownPaste` everywhere: nobody learns which.
    """

    def __init__(
        self,
        database: Database,
        cache: Cache,
        ids: Ids,
        limiter: Limiter,
        clock: Clock,
        settings: LinksSettings | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.settings = settings = settings or LinksSettings()
        self.clock = clock
        self.passwords = Passwords()
        self.renderer = Renderer(metrics=metrics)
        self._database, self._cache, self._ids, self._limiter = database, cache, ids, limiter
        self._key: bytes
        self._unscrubbed = True
        limiter.define("links.pastes.anonymous", f"token {settings.anonymous_per_minute}/minute")
        limiter.define("links.pastes.token", f"token {settings.token_per_minute}/minute")
        limiter.define("links.pastes.password", f"token {settings.passwords_per_minute}/minute")
        metrics = metrics or Metrics()
        self._made = metrics.counter("links_pastes_made", "Pastes made", ("kind",))
        self._reads = metrics.counter("links_paste_reads", "Bodies asked for", ("outcome",))
        self._dropped = metrics.counter("links_pastes_dropped", "Ended pastes whose bodies were deleted")
        self._scrubs = metrics.counter("links_paste_scrubs", "Tries to make the disk forget", ("outcome",))

    async def start(self) -> None:
        self._key = await self._database.write(deployment_key, "pastes")

    async def stop(self) -> None:
        self.passwords.close()
        await self.renderer.stop()

    def now_us(self) -> int:
        return self.clock.wall_ns() // 1000

    def bytes_max(self, by: Caller) -> int:
        """How many bytes a body of this caller may have."""
        return self.settings.paste_bytes_max if by.may("links:write") else self.settings.anonymous_paste_bytes_max

    def url(self, id: str, *, sealed: bool) -> str:
        """The page of a paste; the key of a sealed one belongs behind it as fragment."""
        return f"{self.settings.public_url.rstrip('/')}/{'?' if sealed else 'pastes/'}{id}"

    def delete_token(self, id: str) -> str:
        """Whoever holds it may delete the paste."""
        return delete_token(self._key, id)

    # Making

    async def paste(self, body: str, *, by: Caller = LOCAL, once: Once | None = None, **fields: Any) -> Made:
        """Makes a plain paste; `fields` are those of `NewPaste`."""
        return await self.add(NewPaste(body=body, **fields), by, once=once)

    async def add(
        self,
        new: NewPaste,
        by: Caller = LOCAL,
        *,
        address: str | None = None,
        anonymous: bool | None = None,
        once: Once | None = None,
    ) -> Made:
        """Makes a paste. With an `address` the caller's limits hold (`QuotaExceeded`, `Unauthenticated`).

        `anonymous` is whether callers without a token may; by default the setting of that name says.
        """
        await self._admit(by, address, self.settings.anonymous if anonymous is None else anonymous)
        id, number = token_hex(8), self._ids.next()
        draft, version, body = paste_drafts.first(new, id, number, by.account_id, self.bytes_max(by), self.now_us())
        if new.password is not None:
            draft = msgspec.structs.replace(draft, password=await self.passwords.hash(new.password.encode()))
        return await self._create(draft, version, body, once)

    async def fork(self, id: str, by: Caller = LOCAL, *, address: str | None = None) -> Made:
        """A paste of the caller's own with the same text. Raises `MustReveal` for one that is not open."""
        await self._admit(by, address, False)
        shown = await self.read(id, by)
        within(shown.body, self.bytes_max(by))
        now_us = self.now_us()
        version = msgspec.structs.replace(shown.version, number=1, created_us=now_us)
        draft = Paste(
            id=token_hex(8),
            number=self._ids.next(),
            owner=by.account_id,
            title=shown.paste.title,
            forked_from=id,
            created_us=now_us,
            ends_us=ends_us("1day", now_us),
        )
        return await self._create(draft, version, shown.body, None)

    async def _create(self, draft: Paste, version: Version, body: bytes, once: Once | None) -> Made:
        made = await idempotency.write(self._database, once, Made, _create, draft, version, body)
        self._made.labels("sealed" if draft.sealed else "plain").inc()
        return made

    async def _admit(self, by: Caller, address: str | None, anonymous: bool) -> None:
        if address is None:
            return
        if by.may("links:write"):
            decision = await self._limiter.hit("links.pastes.token", f"{by.kind}:{by.token_id or by.account_id}")
        elif anonymous:
            decision = await self._limiter.hit("links.pastes.anonymous", limit_key(address))
        else:
            raise Unauthenticated("Making pastes needs a token with the scope links:write")
        if not decision:
            raise decision.exceeded()

    # Reading

    async def find(self, id: str, by: Caller = LOCAL) -> Found:
        """A paste and its current version, without its body. Never burns anything."""
        found = await self._database.read(paste_store.living, id, self.now_us())
        if found[0].visibility == "private" and not owns(found[0], by):
            raise UnknownPaste
        return found

    async def read(self, id: str, by: Caller = LOCAL, number: int | None = None) -> Revealed:
        """The body of a paste that is open, or of an earlier version of it. Raises `MustReveal` for any other."""
        found, version = await self.find(id, by)
        if not found.open:
            raise MustReveal
        wanted = version.number if number is None else number
        version, body = await self._database.read(paste_store.read, id, wanted, self.now_us())
        self._reads.labels("shown").inc()
        return Revealed(found, version, body)

    async def challenge(self, id: str, by: Caller = LOCAL) -> tuple[str, int]:
        """A nonce to be answered within two minutes, and when they end (microseconds UTC)."""
        await self.find(id, by)
        now_us = self.now_us()
        return new_nonce(self._key, id, token_bytes(8), now_us), now_us + NONCE_US

    async def reveal(
        self, id: str, proof: Proof | None = None, by: Caller = LOCAL, *, address: str | None = None
    ) -> Revealed:
        """The body of any paste, for who shows what it asks for. Takes one of its reads where those are counted.

        Raises `WrongProof`, and `QuotaExceeded` after five passwords a minute from one `address`. Nothing is burned then.
        """
        proof = proof or Proof()
        found, version = await self.find(id, by)
        try:
            await self._check(found, proof, address)
        except Forbidden:
            self._reads.labels("refused").inc()
            raise
        if found.reads_left is None:
            version, body = await self._database.read(paste_store.read, id, version.number, self.now_us())
            self._reads.labels("shown").inc()
            return Revealed(found, version, body)
        revealed = Revealed(*await self._database.write(paste_store.take, id, self.now_us()))
        if revealed.paste.reads_left == 0:
            self._unscrubbed = True
        self._reads.labels("burned" if revealed.paste.reads_left == 0 else "counted").inc()
        return revealed

    async def _check(self, found: Paste, proof: Proof, address: str | None) -> None:
        if found.verifier is not None:
            if (
                proof.nonce is None
                or proof.mac is None
                or not is_nonce(self._key, found.id, proof.nonce, self.now_us())
            ):
                raise WrongProof("Answer a challenge of this paste")
            if not is_mac(found.verifier, found.id, proof.nonce, proof.mac):
                raise WrongProof("That is not what the key would answer")
            if not await self._cache.add(f"links.nonce:{proof.nonce}", b"", NONCE_US / 1e6):
                raise WrongProof("This challenge has been answered already")
        if found.password is not None:
            if proof.password is None:
                raise WrongProof("It has a password")
            if address is not None:
                decision = await self._limiter.hit("links.pastes.password", f"{found.id}:{limit_key(address)}")
                if not decision:
                    raise decision.exceeded()
            if not await self.passwords.verify(proof.password.encode("utf-8", "replace"), found.password):
                raise WrongProof("That is not the password")

    async def html(self, shown: Revealed) -> str:
        """A plain body as HTML that is safe to show: highlighted, or made from its Markdown."""
        return await self.renderer.render(shown.version.format, shown.version.language, shown.text)

    async def preview(self, text: str, format: Format, language: str) -> tuple[str, str]:
        """(HTML, language) of a text that is not kept."""
        if format == "code" and not language:
            language = guess(text)
        return await self.renderer.render(format, language, text), language

    # One's own

    async def edit(self, id: str, edit: PasteEdit, by: Caller = LOCAL) -> Found:
        """Changes what `edit` names, and keeps the body before as a version. Only the owner may (`Forbidden`)."""
        before, version = await self._own(id, by)
        now_us = self.now_us()
        if edit.body is UNSET and not (edit.format is edit.language is UNSET) and not before.sealed:
            # The same text in another format is a version as well.
            text = (await self._database.read(paste_store.read, id, version.number, now_us))[1].decode()
            edit = msgspec.structs.replace(edit, body=text)
        following, body = paste_drafts.following(edit, before, version, self.bytes_max(by), now_us)
        after = paste_drafts.edited(before, edit, following, now_us)
        return await self._database.write(paste_store.edit, before, after, following, body, now_us)

    async def delete(self, id: str, by: Caller = LOCAL, *, token: str | None = None) -> None:
        """Ends a paste, for its owner or whoever has its delete token. Raises `WrongToken`, and `Forbidden` without one."""
        found, _ = await self._database.read(paste_store.living, id, self.now_us())
        if token is not None:
            if not is_delete_token(self._key, id, token):
                raise WrongToken
        elif not owns(found, by, "links:write"):
            if found.visibility == "private":
                raise UnknownPaste
            raise Forbidden("Only its owner, or who has its delete token, can delete it")
        await self._database.write(paste_store.end, id, self.now_us())
        self._unscrubbed = True

    async def own(self, by: Caller, before: int | None, limit: int) -> list[Found]:
        """The caller's newest pastes that are older than the one numbered `before`."""
        return await self._database.read(paste_store.listed, by.account_id or 0, before, limit, self.now_us())

    async def public(self, before: int | None, limit: int) -> list[Found]:
        """The newest public pastes."""
        return await self._database.read(paste_store.listed, None, before, limit, self.now_us())

    async def search(self, text: str, by: Caller, before: int | None, limit: int) -> tuple[list[Found], int | None]:
        """The caller's pastes with `text` in title or plain body, and where to go on; some 16 MiB are looked at a call."""
        return await self._database.read(
            paste_store.search, by.account_id or 0, text, before, limit, SEARCHED_BYTES_MAX, self.now_us()
        )

    async def versions(self, id: str, by: Caller = LOCAL) -> list[Version]:
        """What bodies it has had, oldest first."""
        await self.find(id, by)
        return await self._database.read(paste_store.versions, id)

    async def diff(self, id: str, old: int, new: int, by: Caller = LOCAL) -> str:
        """What has changed between two versions, as a unified diff."""
        before, after = await self.read(id, by, old), await self.read(id, by, new)
        return await asyncio.to_thread(
            paste_diff.unified, before.text, after.text, f"{id} version {old}", f"{id} version {new}"
        )

    async def _own(self, id: str, by: Caller) -> Found:
        found, version = await self.find(id, by)
        if not owns(found, by, "links:write"):
            raise Forbidden("Only its owner can change it")
        return found, version

    # What hangs on a paste

    async def files(self, id: str, by: Caller = LOCAL) -> list[File]:
        """What is attached to it."""
        await self.find(id, by)
        return await self._database.read(paste_store.files, id)

    async def attach(self, id: str, name: str, content_type: str, body: bytes, by: Caller = LOCAL) -> File:
        """Attaches a file to one's own plain paste, in place of one of the same name. Raises `TooLarge`."""
        found, _ = await self._own(id, by)
        if not found.open:
            raise NotEditable("Files hang on open pastes only; a sealed one has them inside")
        if not title_text(name) or len(name) > 200 or "/" in name:
            raise Invalid("A file's name has 1 to 200 letters and no slash", pointer="/path/name")
        new = File(title_text(name), content_type[:200], len(body))
        await self._database.write(paste_store.put_file, id, new, body, self.bytes_max(by), self.now_us())
        self._unscrubbed = True
        return new

    async def detach(self, id: str, name: str, by: Caller = LOCAL) -> None:
        """Deletes a file. Raises `UnknownPaste` where there is none."""
        await self._own(id, by)
        await self._database.write(paste_store.drop_file, id, name)
        self._unscrubbed = True

    async def file(self, id: str, name: str, by: Caller = LOCAL) -> tuple[File, bytes]:
        await self.find(id, by)
        return await self._database.read(paste_store.read_file, id, name)

    async def comment(
        self, id: str, parent_id: str, cipher: Cipher, ct: str, by: Caller = LOCAL, *, address: str | None = None
    ) -> str:
        """Adds a sealed comment to a discussion and gives its id; `parent_id` is the paste's or another comment's."""
        await self._admit(by, address, True)
        await self.find(id, by)
        check_cipher(cipher)
        body = cipher_text(ct, COMMENT_BYTES_MAX)
        new = Comment(token_hex(8), parent_id, msgspec.to_builtins(cipher), len(body), self.now_us())
        await self._database.write(paste_store.add_comment, id, new, body, self.now_us())
        return new.id

    async def discussion(self, id: str) -> Sequence[tuple[Comment, bytes]]:
        """The sealed comments in order."""
        return await self._database.read(paste_store.discussion, id)

    # Forgetting

    async def sweep(self) -> None:
        """Deletes the bodies of pastes that have ended, and makes the disk forget them: due every 20 seconds."""
        for _ in range(DROPS_A_SWEEP):
            dropped = await self._database.write(paste_store.drop, self.now_us())
            if not dropped:
                break
            self._dropped.inc(dropped)
            self._unscrubbed = True
        # A process that died may have left something: the first sweep always looks.
        for _ in range(SCRUB_TRIES if self._unscrubbed else 0):
            if await self._database.scrub():
                self._unscrubbed = False
                self._scrubs.labels("done").inc()
                return
            self._scrubs.labels("waited").inc()
            await self.clock.sleep(1)


def owns(found: Paste, by: Caller, scope: str = "links:read") -> bool:
    """Whether `by` may do with a paste what its owner may, with credentials that have `scope`."""
    return by.may(ADMIN) or (found.owner is not None and found.owner == by.account_id and by.may(scope))


def _create(connection: Connection, draft: Paste, version: Version, body: bytes) -> Made:
    paste_store.create(connection, draft, version, body)
    return Made(draft.id, draft.sealed, draft.created_us, draft.ends_us)
