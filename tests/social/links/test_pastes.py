"""Pastes as a service, on both databases: who may read what, how often, until when, and what is left of it then."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainspring.core.accounts import Caller
from mainspring.core.clock import VirtualClock
from mainspring.core.database import SqliteDatabase
from mainspring.core.ports import Connection, Database
from mainspring.core.problems import Forbidden, Invalid, TooLarge, Unauthenticated
from mainspring.primitives.limiter import QuotaExceeded
from mainspring.social.links import LinksSettings, paste_store
from mainspring.social.links.paste_model import (
    COMMENTS_MAX,
    FILES_MAX,
    VERSIONS_MAX,
    MustReveal,
    NewPaste,
    NotEditable,
    PasteEdit,
    Proof,
    Sealed,
    UnknownPaste,
    WrongProof,
    WrongToken,
)
from mainspring.social.links.paste_tables import PART_BYTES
from mainspring.social.links.pastes import Pastes
from tests.social.links.conftest import Start, pastes_beside
from tests.social.links.sealing import adata, answer, cipher, seal, verifier

KEY = bytes(range(1, 33))
ALICE = Caller(1001, "alice", "token", frozenset({"links:read", "links:write"}), 1)
BOB = Caller(1002, "bob", "token", frozenset({"links:read", "links:write"}), 2)
STRANGER = Caller(None, "anonymous", "anonymous", frozenset())
OPERATOR = Caller(1000, "root", "token", frozenset({"*"}), 3)
MINUTE_S = 60


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def pastes(start: Start, database: Database, clock: VirtualClock) -> AsyncIterator[Pastes]:
    """Pastes whose time stands still until a test moves it."""
    async with pastes_beside(await start(), database, clock) as pastes:
        pastes.settings = msgspec.structs.replace(pastes.settings)
        yield pastes


async def new(pastes: Pastes, by: Caller = ALICE, **fields: Any) -> str:
    return (await pastes.add(NewPaste(**{"body": "some text", **fields}), by)).id


def sealed(text: str = "a secret", *, proof: bool = False, **flags: int) -> Sealed:
    authenticated: Any = adata(**flags)
    given_verifier = verifier(KEY).hex() if proof else None
    return Sealed(authenticated, seal({"paste": text}, authenticated, KEY), given_verifier)


async def proof_of(pastes: Pastes, id: str, key: bytes = KEY) -> Proof:
    nonce, _ = await pastes.challenge(id)
    return Proof(nonce=nonce, mac=answer(key, id, nonce))


async def gone(pastes: Pastes, id: str) -> bool:
    """Whether the paste is there for nobody, in any way."""
    asked: list[Callable[[], Any]] = [
        lambda: pastes.find(id, OPERATOR),
        lambda: pastes.read(id, OPERATOR),
        lambda: pastes.reveal(id, by=OPERATOR),
        lambda: pastes.versions(id, OPERATOR),
        lambda: pastes.files(id, OPERATOR),
        lambda: pastes.challenge(id, OPERATOR),
        lambda: pastes.delete(id, OPERATOR),
        lambda: pastes.edit(id, PasteEdit(title="x"), OPERATOR),
    ]
    missing = 0
    for ask in asked:
        try:
            await ask()
        except UnknownPaste:
            missing += 1
    return missing == len(asked)


def _count(connection: Connection, id: str) -> int:
    rows = [
        paste_store.versions(connection, id),
        paste_store.comments(connection, id),
        paste_store.files(connection, id),
    ]
    return sum(map(len, rows)) + len(connection.execute(paste_store.SOME_PARTS, {"id": id}).all())


async def test_a_text_comes_back_to_the_letter_whatever_its_size(pastes: Pastes) -> None:
    for text in (
        "a",
        "Grüße ☃ 𝄞\r\n\ttrailing  \n\n",
        "x" * PART_BYTES,
        "ä" * (PART_BYTES + 1),
        "0123456789" * 100_000,
    ):
        id = await new(pastes, body=text)
        assert (await pastes.read(id)).text == text
        assert (await pastes.reveal(id, by=STRANGER)).text == text


async def test_a_body_has_so_many_bytes_and_no_more(pastes: Pastes) -> None:
    pastes.settings.paste_bytes_max, pastes.settings.anonymous_paste_bytes_max = 100, 10
    await new(pastes, body="x" * 100)
    with pytest.raises(TooLarge):
        await new(pastes, body="x" * 101)
    with pytest.raises(TooLarge):
        await new(pastes, STRANGER, body="é" * 6)
    for body in ("", "a\0b"):
        with pytest.raises(Invalid):
            await new(pastes, body=body)


async def test_whether_it_has_expired_is_decided_when_it_is_read(pastes: Pastes, clock: VirtualClock) -> None:
    brief, long = await new(pastes, expire="5min"), await new(pastes, expire="never")
    await clock.advance(5 * MINUTE_S - 0.001)
    assert (await pastes.read(brief)).text == "some text"
    await clock.advance(0.001)
    assert await gone(pastes, brief)
    assert [found.id for found, _ in await pastes.own(ALICE, None, 10)] == [long]
    await clock.advance(100 * 366 * 86_400)
    assert (await pastes.read(long)).text == "some text"


async def test_no_step_of_a_clock_brings_back_what_was_deleted_or_burned(pastes: Pastes, clock: VirtualClock) -> None:
    deleted, burned = await new(pastes), await new(pastes, burn_after=1)
    await pastes.delete(deleted, ALICE)
    await pastes.reveal(burned)
    clock.set_wall(clock.wall_ns() - 3_600 * 10**9)
    assert await gone(pastes, deleted) and await gone(pastes, burned)


async def test_of_200_racing_readers_of_a_burning_paste_one_gets_it(pastes: Pastes) -> None:
    id = await new(pastes, burn_after=1)
    answers = await asyncio.gather(*(pastes.reveal(id) for _ in range(200)), return_exceptions=True)
    read = [one for one in answers if not isinstance(one, BaseException)]
    assert [one.text for one in read] == ["some text"]
    assert all(isinstance(one, UnknownPaste) for one in answers if one not in read)
    assert await gone(pastes, id)


async def test_it_is_read_so_often_as_its_sender_allowed(pastes: Pastes) -> None:
    id = await new(pastes, burn_after=3)
    answers = await asyncio.gather(*(pastes.reveal(id) for _ in range(20)), return_exceptions=True)
    left = sorted(one.paste.reads_left or 0 for one in answers if not isinstance(one, BaseException))
    assert left == [0, 1, 2]
    assert await gone(pastes, id)


async def test_two_nodes_share_what_is_left_of_a_paste(start: Start, database: Database, clock: VirtualClock) -> None:
    links = await start()
    async with pastes_beside(links, database, clock) as here, pastes_beside(links, database, clock) as there:
        id = await new(here, burn_after=2)
        answers = await asyncio.gather(
            *((here if n % 2 else there).reveal(id) for n in range(40)), return_exceptions=True
        )
        assert sum(not isinstance(one, BaseException) for one in answers) == 2
        assert here.delete_token(id) == there.delete_token(id)


async def test_looking_at_a_paste_never_burns_it(pastes: Pastes) -> None:
    id = await new(pastes, burn_after=1)
    for _ in range(3):
        assert (await pastes.find(id, STRANGER))[0].reads_left == 1
        await pastes.versions(id), await pastes.files(id), await pastes.challenge(id)
        with pytest.raises(MustReveal):
            await pastes.read(id, ALICE)
        with pytest.raises(MustReveal):
            await pastes.fork(id, ALICE)
        with pytest.raises(MustReveal):
            await pastes.diff(id, 1, 1, ALICE)
    assert (await pastes.reveal(id)).text == "some text"


async def test_a_password_opens_it_and_wrong_ones_are_counted(pastes: Pastes) -> None:
    id = await new(pastes, password="sesame", burn_after=1)
    for wrong in (None, "", "Sesame", "\ud800"):
        with pytest.raises(WrongProof):
            await pastes.reveal(id, Proof(wrong), STRANGER, address="192.0.2.1")
    assert (await pastes.find(id))[0].reads_left == 1
    for _ in range(2):
        with pytest.raises(WrongProof):
            await pastes.reveal(id, Proof("x"), STRANGER, address="192.0.2.1")
    with pytest.raises(QuotaExceeded):
        await pastes.reveal(id, Proof("sesame"), STRANGER, address="192.0.2.1")
    assert (await pastes.reveal(id, Proof("sesame"), STRANGER, address="192.0.2.2")).text == "some text"


async def test_private_ones_are_there_for_their_owner_only(pastes: Pastes) -> None:
    id = await new(pastes, visibility="private")
    assert (await pastes.read(id, ALICE)).text == "some text"
    for other in (STRANGER, BOB):
        for ask in (pastes.find, pastes.read, pastes.delete, pastes.versions, pastes.fork, pastes.challenge):
            with pytest.raises(UnknownPaste):
                await ask(id, other)
    with pytest.raises(Invalid):
        await new(pastes, STRANGER, visibility="private")
    talk = (await pastes.add(NewPaste(sealed=sealed(discussion=1), visibility="private"), ALICE)).id
    ct: Any = seal({"comment": "x"}, cipher(), KEY)
    with pytest.raises(UnknownPaste):
        await pastes.comment(talk, talk, tuple(cipher()), ct, STRANGER)  # type: ignore[arg-type]
    await pastes.comment(talk, talk, tuple(cipher()), ct, ALICE)  # type: ignore[arg-type]


async def test_credentials_without_the_scope_are_a_strangers_although_they_are_the_owners(pastes: Pastes) -> None:
    hidden, shown = await new(pastes, visibility="private"), await new(pastes)
    narrow, reading = (msgspec.structs.replace(ALICE, scopes=frozenset({scope})) for scope in ("ids:*", "links:read"))
    for ask in (pastes.find, pastes.read, pastes.reveal, pastes.versions):
        with pytest.raises(UnknownPaste):
            await ask(hidden, by=narrow)
        await ask(hidden, by=reading)
    for by in (narrow, reading):
        for change in (pastes.delete(shown, by), pastes.edit(shown, PasteEdit(title="x"), by)):
            with pytest.raises(Forbidden):
                await change


async def test_only_public_ones_are_listed_for_everybody(pastes: Pastes) -> None:
    made = {name: await new(pastes, visibility=name) for name in ("public", "unlisted", "private")}
    assert [found.id for found, _ in await pastes.public(None, 10)] == [made["public"]]
    assert [found.id for found, _ in await pastes.own(BOB, None, 10)] == []
    assert [found.id for found, _ in await pastes.own(ALICE, None, 10)] == list(made.values())[::-1]
    newest = (await pastes.own(ALICE, None, 1))[0][0]
    assert [found.id for found, _ in await pastes.own(ALICE, newest.number, 10)] == [made["unlisted"], made["public"]]


async def test_only_the_owner_or_the_tokens_holder_deletes(pastes: Pastes) -> None:
    first, second, third, nobodys = [
        await new(pastes),
        await new(pastes),
        await new(pastes),
        await new(pastes, STRANGER),
    ]
    for other in (STRANGER, BOB):
        with pytest.raises(Forbidden):
            await pastes.delete(first, other)
        with pytest.raises(Forbidden):
            await pastes.delete(nobodys, other)
        with pytest.raises(WrongToken):
            await pastes.delete(first, other, token=pastes.delete_token(second))
    await pastes.delete(first, ALICE)
    await pastes.delete(second, STRANGER, token=pastes.delete_token(second))
    await pastes.delete(third, OPERATOR)
    await pastes.delete(nobodys, STRANGER, token=pastes.delete_token(nobodys))
    for id in (first, second, third, nobodys):
        assert await gone(pastes, id)


async def test_an_edit_is_a_new_version_and_the_old_ones_stay(pastes: Pastes) -> None:
    id = await new(pastes, body="one\ntwo\nthree\n")
    found, version = await pastes.edit(id, PasteEdit(body="one\n2\nthree\n", title="Numbers"), ALICE)
    assert (found.version, found.title, version.number) == (2, "Numbers", 2)
    assert (await pastes.read(id)).text == "one\n2\nthree\n"
    assert (await pastes.read(id, number=1)).text == "one\ntwo\nthree\n"
    assert [one.number for one in await pastes.versions(id)] == [1, 2]
    assert await pastes.diff(id, 1, 2) == (
        f"--- {id} version 1\n+++ {id} version 2\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"
    )
    await pastes.edit(id, PasteEdit(visibility="public", expire="never"), ALICE)
    assert (await pastes.find(id))[0].version == 2
    _, highlighted = await pastes.edit(id, PasteEdit(format="code", language="python"), ALICE)
    assert (highlighted.number, highlighted.language) == (3, "python")
    with pytest.raises(UnknownPaste):
        await pastes.read(id, number=9)
    for other in (BOB, STRANGER):
        with pytest.raises(Forbidden):
            await pastes.edit(id, PasteEdit(body="mine"), other)


async def test_of_racing_edits_each_is_a_version_or_refused(pastes: Pastes) -> None:
    id = await new(pastes)
    edits = [pastes.edit(id, PasteEdit(body=f"text {n}"), ALICE) for n in range(12)]
    outcomes = await asyncio.gather(*edits, return_exceptions=True)
    made = [one for one in outcomes if not isinstance(one, BaseException)]
    assert all(isinstance(one, NotEditable) for one in outcomes if isinstance(one, BaseException)) and made
    assert [one.number for one in await pastes.versions(id)] == list(range(1, len(made) + 2))


async def test_versions_and_files_are_bounded(pastes: Pastes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paste_store, "VERSIONS_MAX", 3)
    id = await new(pastes)
    for n in range(2):
        await pastes.edit(id, PasteEdit(body=f"{n}"), ALICE)
    with pytest.raises(NotEditable):
        await pastes.edit(id, PasteEdit(body="one too many"), ALICE)
    for n in range(FILES_MAX):
        await pastes.attach(id, f"{n}.txt", "text/plain", b"x", ALICE)
    with pytest.raises(NotEditable):
        await pastes.attach(id, "more.txt", "text/plain", b"x", ALICE)
    await pastes.attach(id, "1.txt", "text/plain", b"replaced", ALICE)
    assert (await pastes.file(id, "1.txt"))[1] == b"replaced"
    assert VERSIONS_MAX == 100


async def test_what_burns_or_is_sealed_is_not_edited_as_text(pastes: Pastes) -> None:
    burning, secret = await new(pastes, burn_after=2), (await pastes.add(NewPaste(sealed=sealed()), ALICE)).id
    for id, edit in (
        (burning, PasteEdit(body="x")),
        (burning, PasteEdit(format="code")),
        (secret, PasteEdit(body="x")),
        (secret, PasteEdit(title="x")),
        (secret, PasteEdit(sealed=sealed(burn=1))),
        (secret, PasteEdit(sealed=sealed(proof=True))),
        (await new(pastes), PasteEdit(sealed=sealed())),
    ):
        with pytest.raises(NotEditable):
            await pastes.edit(id, edit, ALICE)
    await pastes.edit(secret, PasteEdit(sealed=sealed("another secret")), ALICE)
    assert (await pastes.reveal(secret)).version.number == 2


async def test_a_fork_is_a_paste_of_ones_own(pastes: Pastes) -> None:
    id = await new(pastes, body="x = 1\n", format="code", language="python", title="One", visibility="public")
    copy = (await pastes.fork(id, BOB)).id
    shown = await pastes.read(copy, BOB)
    assert (shown.text, shown.paste.forked_from, shown.paste.owner) == ("x = 1\n", id, BOB.account_id)
    assert (shown.version.language, shown.paste.visibility, shown.paste.title) == ("python", "unlisted", "One")
    await pastes.delete(id, ALICE)
    assert (await pastes.read(copy)).text == "x = 1\n"


async def test_files_hang_on_open_pastes(pastes: Pastes) -> None:
    id = await new(pastes)
    content = bytes(range(256)) * 2_000
    await pastes.attach(id, "a b.bin", "application/x-any", content, ALICE)
    assert [(one.name, one.size_bytes) for one in await pastes.files(id)] == [("a b.bin", len(content))]
    assert (await pastes.file(id, "a b.bin", STRANGER))[1] == content
    for name in ("", "a/b", "x" * 201, "a\nb"):
        with pytest.raises(Invalid):
            await pastes.attach(id, name, "text/plain", b"x", ALICE)
    pastes.settings.paste_bytes_max = len(content) + 5
    with pytest.raises(TooLarge):
        await pastes.attach(id, "more", "text/plain", b"123456", ALICE)
    with pytest.raises(Forbidden):
        await pastes.attach(id, "theirs", "text/plain", b"x", BOB)
    with pytest.raises(NotEditable):
        await pastes.attach(await new(pastes, burn_after=1), "x", "text/plain", b"x", ALICE)
    await pastes.detach(id, "a b.bin", ALICE)
    for wrong in ("a b.bin", "a\0b"):
        with pytest.raises(UnknownPaste):
            await pastes.file(id, wrong)
        with pytest.raises(UnknownPaste):
            await pastes.detach(id, wrong, ALICE)


async def test_ones_own_are_found_by_their_words(pastes: Pastes, monkeypatch: pytest.MonkeyPatch) -> None:
    snow = await new(pastes, body="Schnee fällt auf STRASSEN")
    titled = await new(pastes, title="Über Schnee", body="nothing")
    await new(pastes, BOB, body="Schnee bei Bob")
    await pastes.add(NewPaste(sealed=sealed("Schnee")), ALICE)
    far = await new(pastes, body="x" * (PART_BYTES - 3) + "needle" + "x" * 100)

    async def found(text: str) -> list[str]:
        ids, before = [], None
        for _ in range(50):
            matches, before = await pastes.search(text, ALICE, before, 2)
            ids += [one.id for one, _ in matches]
            if before is None:
                return ids
        raise AssertionError("it never ends")

    assert await found("schnee") == [titled, snow]
    assert await found("FÄLLT") == [snow] and await found("straße") == [snow]
    assert await found("needle") == [far]
    assert await found("100%") == [] == await found("\0")
    monkeypatch.setattr("mainspring.social.links.pastes.SEARCHED_BYTES_MAX", 1)
    assert await found("schnee") == [titled, snow]


async def test_only_who_knows_the_key_gets_a_body_that_asks_for_it(pastes: Pastes, clock: VirtualClock) -> None:
    id = (await pastes.add(NewPaste(sealed=sealed(proof=True), burn_after=2), ALICE)).id
    good = await proof_of(pastes, id)
    for wrong in (
        None,
        Proof(),
        Proof(nonce=good.nonce),
        Proof(mac=good.mac),
        Proof(nonce=good.nonce, mac="0" * 64),
        Proof(nonce="x.y.z", mac=good.mac),
        await proof_of(pastes, id, bytes(32)),
        Proof(nonce=(await proof_of(pastes, await new(pastes))).nonce, mac=good.mac),
    ):
        with pytest.raises(WrongProof):
            await pastes.reveal(id, wrong, ALICE)
    assert (await pastes.find(id))[0].reads_left == 2
    assert (await pastes.reveal(id, good, STRANGER)).paste.reads_left == 1
    with pytest.raises(WrongProof, match="already"):
        await pastes.reveal(id, good, STRANGER)
    late = await proof_of(pastes, id)
    await clock.advance(2 * MINUTE_S)
    with pytest.raises(WrongProof):
        await pastes.reveal(id, late, STRANGER)
    assert (await pastes.reveal(id, await proof_of(pastes, id), STRANGER)).paste.reads_left == 0
    assert await gone(pastes, id)


async def test_a_sealed_paste_says_nothing_in_the_clear(pastes: Pastes) -> None:
    for wrong in ({"body": "clear"}, {"title": "clear"}, {"password": "clear"}):
        with pytest.raises(Invalid):
            await pastes.add(NewPaste(sealed=sealed(), **wrong), ALICE)
    with pytest.raises(Invalid):
        await pastes.add(NewPaste(sealed=sealed(discussion=1), burn_after=1), ALICE)


async def test_making_pastes_is_limited_and_needs_a_token_unless_anybody_may(start: Start, database: Database) -> None:
    clock = VirtualClock()
    links = await start(LinksSettings(anonymous_per_minute=2, token_per_minute=3), clock=clock)
    async with pastes_beside(links, database) as pastes:
        with pytest.raises(Unauthenticated):
            await pastes.add(NewPaste(body="x"), STRANGER, address="192.0.2.1")
        pastes.settings.anonymous = True
        for address in ("192.0.2.1", "2001:db8:1:2::1"):
            for _ in range(2):
                await pastes.add(NewPaste(body="x"), STRANGER, address=address)
        for address in ("192.0.2.1", "2001:db8:1:2:ffff::9"):
            with pytest.raises(QuotaExceeded):
                await pastes.add(NewPaste(body="x"), STRANGER, address=address)
        for _ in range(3):
            await pastes.add(NewPaste(body="x"), ALICE, address="192.0.2.1")
        with pytest.raises(QuotaExceeded):
            await pastes.add(NewPaste(body="x"), ALICE, address="192.0.2.99")


async def test_a_full_discussion_takes_no_more(pastes: Pastes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paste_store, "COMMENTS_MAX", 2)
    id = (await pastes.add(NewPaste(sealed=sealed(discussion=1)), ALICE)).id
    ct = seal({"comment": "x"}, cipher(), KEY)
    for _ in range(2):
        await pastes.comment(id, id, tuple(cipher()), ct, STRANGER)  # type: ignore[arg-type]
    with pytest.raises(NotEditable):
        await pastes.comment(id, id, tuple(cipher()), ct, STRANGER)  # type: ignore[arg-type]
    assert COMMENTS_MAX == 500


async def test_sweeping_leaves_nothing_of_what_has_ended_and_all_of_the_rest(
    pastes: Pastes, database: Database, clock: VirtualClock
) -> None:
    large = "0123456789abcdef" * (5 * PART_BYTES // 16)
    ended = [await new(pastes, body=large, expire="5min"), await new(pastes), await new(pastes, burn_after=1)]
    talk = (await pastes.add(NewPaste(sealed=sealed(discussion=1)), ALICE)).id
    await pastes.comment(talk, talk, tuple(cipher()), seal({"comment": "x"}, cipher(), KEY))  # type: ignore[arg-type]
    await pastes.attach(ended[1], "a.txt", "text/plain", b"x", ALICE)
    await pastes.edit(ended[1], PasteEdit(body="second"), ALICE)
    kept = await new(pastes, body=large)
    await pastes.delete(ended[1], ALICE)
    await pastes.reveal(ended[2])
    await pastes.delete(talk, ALICE)
    await clock.advance(5 * MINUTE_S)
    await pastes.sweep()
    for id in (*ended, talk):
        assert await database.read(paste_store.get, id) is None and await database.read(_count, id) == 0
    assert (await pastes.read(kept)).text == large
    await pastes.sweep()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_what_has_ended_is_nowhere_on_the_disk_after_a_sweep(
    pastes: Pastes, database: SqliteDatabase, tmp_path: Path
) -> None:
    def on_disk() -> bytes:
        return b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.name.startswith("test.db"))

    mark = "the launch code is 0000 "
    kept = await new(pastes, body="something else that stays")
    burning = [await new(pastes, body=mark * times, burn_after=1) for times in (1, 40, 400, 30_000)]
    deleted = await new(pastes, body=mark)
    await pastes.attach(deleted, "file", "text/plain", mark.encode(), ALICE)
    await pastes.edit(deleted, PasteEdit(body="harmless now"), ALICE)
    assert mark.encode() in on_disk()
    for id in burning:
        await pastes.reveal(id)
    await pastes.delete(deleted, ALICE)
    await pastes.sweep()
    assert mark.encode() not in on_disk() and b"launch code" not in on_disk()
    assert (await pastes.read(kept)).text == "something else that stays"


@given(st.lists(st.tuples(st.integers(20, 30_000), st.booleans()), min_size=2, max_size=40))
@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_no_fragment_of_a_dropped_body_stays_in_a_page_however_pages_were_rebuilt(
    pastes: Pastes, database: SqliteDatabase, tmp_path: Path, history: list[tuple[int, bool]]
) -> None:
    dropped = []
    for size, stays in history:
        mark = f"<{len(dropped):05d}{size:05d}{'k' if stays else 'd'}>"
        id = await new(pastes, body=(mark * (size // len(mark) + 1))[:size])
        if not stays:
            dropped.append(id)
    for id in dropped:
        await pastes.delete(id, ALICE)
    await pastes.sweep()
    files = [path.read_bytes() for path in tmp_path.iterdir() if path.name.startswith("test.db")]
    assert not any(b"d><" in content for content in files)


async def test_reads_and_makings_are_counted(start: Start, database: Database) -> None:
    from mainspring.core.telemetry import Metrics

    links, metrics = await start(), Metrics()
    async with pastes_beside(links, database, metrics=metrics) as pastes:
        burning, secret = await new(pastes, burn_after=1), await new(pastes, password="x")
        await pastes.reveal(burning)
        with pytest.raises(WrongProof):
            await pastes.reveal(secret)
        await pastes.sweep()
    told = metrics.exposition().decode()
    for line in (
        'links_pastes_made_total{kind="plain"} 2',
        'links_paste_reads_total{outcome="burned"} 1',
        'links_paste_reads_total{outcome="refused"} 1',
        "links_pastes_dropped_total 1",
        'links_paste_scrubs_total{outcome="done"} 1',
    ):
        assert line in told
