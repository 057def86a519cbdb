"""Key pairs: another face of a token, found as long as the token is there."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.accounts import Accounts
from mainspring.core.accounts.key_pairs import access_key_of, secret_key_of, token_of
from mainspring.core.accounts.model import OPERATOR, digest
from mainspring.core.clock import VirtualClock


@settings(max_examples=50)
@given(st.integers(0, 2**63 - 1), st.integers(0, 19), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567a1-\u00df"))
def test_an_access_key_is_one_token_and_a_misspelt_one_never_that_token(token_id: int, at: int, letter: str) -> None:
    key = access_key_of(token_id)
    assert len(key) == 20
    assert token_of(key) == token_id
    misspelt = key[:at] + letter + key[at + 1 :]
    assert misspelt == key or token_of(misspelt) != token_id


async def test_a_pair_signs_for_its_tokens_account_until_the_token_is_revoked(accounts: Accounts) -> None:
    made = await accounts.create_token(OPERATOR, "backup", ["objects:read"])
    pair = await accounts.key_pairs.find(access_key_of(made.token.id))
    assert pair is not None
    assert pair.secret_key == secret_key_of(digest(made.secret))
    assert len(pair.secret_key) == 40 and pair.secret_key.isalnum()
    assert (pair.caller.account_id, pair.caller.scopes, pair.owner) == (1, {"objects:read"}, True)
    assert await accounts.key_pairs.named(1, "backup") == pair
    await accounts.revoke_token(OPERATOR, made.token.id)
    assert await accounts.key_pairs.find(pair.access_key) is None


async def test_a_pair_revoked_elsewhere_is_forgotten_within_a_second(
    accounts: Accounts, elsewhere: Accounts, now: VirtualClock
) -> None:
    made = await accounts.create_token(OPERATOR, "backup", ["objects:read"])
    key = access_key_of(made.token.id)
    assert await elsewhere.key_pairs.find(key) is not None
    await accounts.revoke_token(OPERATOR, made.token.id)
    await now.advance(0.5)
    assert await elsewhere.key_pairs.find(key) is None


async def test_an_expired_token_has_no_pair(accounts: Accounts, now: VirtualClock) -> None:
    expires_us = now.wall_ns() // 1000 + 100_000
    made = await accounts.create_token(OPERATOR, "short", ["objects:read"], expires_us=expires_us)
    key = access_key_of(made.token.id)
    assert await accounts.key_pairs.find(key) is not None
    await now.advance(0.2)
    assert accounts.key_pairs.remembered(key) is None
    assert await accounts.key_pairs.find(key) is None


async def test_an_app_password_and_an_unknown_key_have_no_pair(accounts: Accounts) -> None:
    made = await accounts.create_app_password(OPERATOR, "phone", ["objects:read"])
    assert await accounts.key_pairs.find(access_key_of(made.token.id)) is None
    assert await accounts.key_pairs.find("AKIAIOSFODNN7EXAMPLE") is None
