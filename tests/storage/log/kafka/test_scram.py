"""SCRAM beside the example of its standard, and against those who do not know the password."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.storage.log.kafka.scram import Credential, Exchange, ScramFailed, credential, is_password, salted


def kept(mechanism: str, password: str, salt: bytes, iterations: int) -> Credential:
    return credential(mechanism, salted(mechanism, password, salt, iterations), salt, iterations)


def test_the_example_of_rfc_7677() -> None:
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    user = kept("SCRAM-SHA-256", "pencil", salt, 4096)
    exchange = Exchange(
        "SCRAM-SHA-256", lambda name: user if name == "user" else None, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    first = exchange.first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    assert first == b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    final = (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert exchange.final(final) == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_a_wrong_proof_nonce_or_binding_is_refused() -> None:
    user = kept("SCRAM-SHA-512", "secret", b"salt", 4096)
    for final in (
        b"c=biws,r=abcXYZ,p=" + base64.b64encode(bytes(64)),
        b"c=biws,r=abcXYZ,p=" + base64.b64encode(bytes(20)),
        b"c=biws,r=abc,p=" + base64.b64encode(bytes(64)),
        b"c=eSws,r=abcXYZ,p=" + base64.b64encode(bytes(64)),
        b"c=biws,r=abcXYZ",
        b"c=biws,r=abcXYZ,p=%%%",
        b"",
        b"\xff\xfe",
    ):
        exchange = Exchange("SCRAM-SHA-512", lambda name: user, "XYZ")
        exchange.first(b"n,,n=alice,r=abc")
        with pytest.raises(ScramFailed):
            exchange.final(final)


@pytest.mark.parametrize(
    "first",
    [b"", b"n,,", b"p=tls-unique,,n=a,r=b", b"n,,r=b,n=a", b"n,,n=a", b"n,,n=a,r=", b"n,a=root,n=a,r=b", b"\xff"],
)
def test_a_first_message_that_is_none_is_refused(first: bytes) -> None:
    user = kept("SCRAM-SHA-256", "secret", b"salt", 4096)
    with pytest.raises(ScramFailed):
        Exchange("SCRAM-SHA-256", lambda name: user).first(first)


def test_a_name_that_nobody_has_is_refused_and_escapes_are_read() -> None:
    asked: list[str] = []
    with pytest.raises(ScramFailed):
        Exchange("SCRAM-SHA-256", lambda name: asked.append(name)).first(b"n,,n=a=2Cb=3Dc,r=x")
    assert asked == ["a,b=c"]


@settings(max_examples=10)
@given(st.text(max_size=30), st.text(max_size=30))
def test_only_the_password_itself_is_the_password(password: str, other: str) -> None:
    user = kept("SCRAM-SHA-256", password, b"0123456789", 4096)
    assert is_password("SCRAM-SHA-256", password, user)
    assert is_password("SCRAM-SHA-256", other, user) == (other == password)
