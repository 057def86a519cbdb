"""The rules about scopes, names, passwords and secrets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.accounts import ANONYMOUS, Caller
from mainspring.core.accounts.caller import covers, is_scope
from mainspring.core.accounts.model import (
    APP_PASSWORD,
    DEFAULT_SHAPE,
    OWNER_ID,
    Account,
    NotAllowed,
    account_name,
    label,
    must_manage,
    narrowed,
    new_id,
    new_password,
    new_secret,
    password_bytes,
    scope_set,
)
from mainspring.core.manifest import TokenShape
from mainspring.core.problems import Invalid

ATOMS = [f"{system}:{action}" for system in ("links", "ids", "accounts") for action in ("read", "write")]
SCOPES = st.frozensets(st.sampled_from([*ATOMS, "links:*", "ids:*", "accounts:*", "*"]), max_size=5)


def caller(*scopes: str, account_id: int = 7) -> Caller:
    return Caller(account_id, "somebody", "token", frozenset(scopes))


def meaning(scopes: frozenset[str]) -> set[str]:
    """Every action of these three systems that the scopes allow, written out."""
    return {atom for atom in ATOMS if "*" in scopes or atom in scopes or atom.split(":")[0] + ":*" in scopes}


@given(SCOPES)
def test_a_caller_may_do_what_the_scopes_mean_and_nothing_else(scopes: frozenset[str]) -> None:
    assert {atom for atom in ATOMS if caller(*scopes).may(atom)} == meaning(scopes)


@given(SCOPES, SCOPES)
def test_what_is_covered_means_no_more_than_what_is_held(held: frozenset[str], wanted: frozenset[str]) -> None:
    if covers(held, wanted):
        assert meaning(wanted) <= meaning(held)


@given(SCOPES, SCOPES)
def test_narrowed_scopes_mean_exactly_what_both_mean(first: frozenset[str], second: frozenset[str]) -> None:
    both = narrowed(first, second)
    assert meaning(both) == meaning(first) & meaning(second)
    assert covers(first, both) and covers(second, both)
    assert narrowed(first, first | second) == first | {one for one in second if covers(first, [one])}


def test_everything_of_a_system_does_not_cover_everything() -> None:
    assert not covers(["links:*", "ids:*"], ["*"])
    assert not covers(["links:read", "links:write"], ["links:*"])


def test_nobody_may_do_nothing() -> None:
    assert ANONYMOUS.anonymous and not caller().anonymous
    assert not any(ANONYMOUS.may(atom) for atom in ATOMS)


@pytest.mark.parametrize(
    "text", ["", "links", "links:", ":read", "Links:read", "links:read:x", "*:read", "links:**", "li nks:r"]
)
def test_what_is_no_scope_is_refused_as_one(text: str) -> None:
    assert not is_scope(text)
    with pytest.raises(Invalid):
        scope_set([text])


def test_too_many_scopes_are_refused() -> None:
    with pytest.raises(Invalid):
        scope_set(f"links:a{number}" for number in range(101))


@pytest.mark.parametrize(("typed", "kept"), [("Lea", "lea"), (" a.b+c@example.org ", "a.b+c@example.org"), ("x", "x")])
def test_a_name_is_kept_in_lower_case(typed: str, kept: str) -> None:
    assert account_name(typed) == kept


@pytest.mark.parametrize(
    "typed", ["", " ", ".a", "a.", "a:b", "a b", "é", "аdmin", "a" * 65, "a\0b", "a\nb", "anonymous"]
)
def test_a_name_that_could_be_mistaken_or_misread_is_refused(typed: str) -> None:
    with pytest.raises(Invalid):
        account_name(typed)


@pytest.mark.parametrize("typed", ["", " ", "x" * 101, "a\nb", "a\x00b"])
def test_a_label_that_cannot_be_printed_is_refused(typed: str) -> None:
    with pytest.raises(Invalid):
        label(typed)


@pytest.mark.parametrize("typed", ["", "elevenchars", "aaaaaaaaaaaaaaaa", "abababababab", "correct-name-1", "x" * 2000])
def test_a_password_that_is_easy_to_guess_is_refused(typed: str) -> None:
    with pytest.raises(Invalid):
        new_password(typed, "correct-name-1")


def test_a_password_is_the_same_however_its_accents_are_typed() -> None:
    assert new_password("cafe\u0301 au lait", "x") == password_bytes("caf\u00e9 au lait")


@given(st.text(st.characters()))
def test_whatever_is_typed_as_a_password_has_bytes(typed: str) -> None:
    assert isinstance(password_bytes(typed), bytes)


@pytest.mark.parametrize(
    "shape", [DEFAULT_SHAPE, APP_PASSWORD, TokenShape("", 36), TokenShape("key-", 24, "0123456789abcdef")]
)
def test_a_secret_has_the_shape_that_was_asked_for(shape: TokenShape) -> None:
    made = {new_secret(shape) for _ in range(50)}
    assert len(made) == 50
    for secret in made:
        assert secret.startswith(shape.prefix) and len(secret) == len(shape.prefix) + shape.length
        assert set(secret[len(shape.prefix) :]) <= set(shape.alphabet)


@pytest.mark.parametrize(
    "shape", [TokenShape("ms_", 10), TokenShape("", 0), TokenShape("", 40, ""), TokenShape("", 40, "aaaa")]
)
def test_a_shape_that_could_be_guessed_is_refused(shape: TokenShape) -> None:
    with pytest.raises(ValueError):
        new_secret(shape)


def test_ids_are_positive_fit_a_database_and_leave_the_owners_alone() -> None:
    made = {new_id() for _ in range(1000)}
    assert len(made) == 1000 and all(OWNER_ID < id < 2**63 for id in made)


def account(*granted: str, id: int = 8, role: str = "member") -> Account:
    return Account(id, "user", "other", role, frozenset(granted), None, 0, None)  # type: ignore[arg-type]


def test_an_account_is_managed_by_itself_and_by_those_who_may_do_all_that_it_may() -> None:
    must_manage(caller("accounts:self", account_id=8), account("links:*", id=8))
    must_manage(caller("accounts:*", "links:*"), account("links:write"))
    must_manage(caller("*"), account(role="owner"))
    for by, whom in [
        (caller("accounts:read", "accounts:self", "links:*"), account("links:write")),
        (caller("accounts:*", "links:read"), account("links:write")),
        (caller("accounts:*", "links:*"), account(role="owner")),
        (caller("links:*", account_id=8), account("links:*", id=8)),
        (ANONYMOUS, account()),
    ]:
        with pytest.raises(NotAllowed):
            must_manage(by, whom)
