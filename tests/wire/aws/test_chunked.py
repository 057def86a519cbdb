"""Bodies in chunks beside AWS's published examples, cut anywhere, and spoilt anywhere."""

import hmac
from contextlib import suppress
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.problems import Problem
from mainspring.wire.aws import sigv4
from mainspring.wire.aws.chunked import SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER, ChunkedDecoder
from mainspring.wire.aws.errors import IncompleteBody, SignatureDoesNotMatch
from tests.wire.aws.test_sigv4 import DATE, SCOPE, SECRET

KEY = sigv4.derived_key(SECRET, "20130524", "us-east-1", "s3")
CONTENT = b"a" * 66_560
SEED = sigv4.Seed(KEY, DATE, SCOPE.text, "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9")
PUBLISHED = (
    b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n"
    + b"a" * 65_536
    + b"\r\n"
    b"400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n" + b"a" * 1_024 + b"\r\n"
    b"0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
)
SEED_TRAILER = sigv4.Seed(KEY, DATE, SCOPE.text, "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e")
PUBLISHED_TRAILER = (
    b"10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n"
    + b"a" * 65_536
    + b"\r\n"
    b"400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n" + b"a" * 1_024 + b"\r\n"
    b"0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n"
    b"x-amz-checksum-crc32c:sOO8/Q==\r\n"
    b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
)


def decode(decoder: ChunkedDecoder, body: bytes, step: int = 1 << 20) -> bytes:
    content = b"".join(bytes(one) for at in range(0, len(body), step) for one in decoder.feed(body[at : at + step]))
    decoder.end()
    return content


def test_the_seed_of_the_published_example_is_its_requests_signature() -> None:
    headers = {
        b"content-encoding": b"aws-chunked",
        b"content-length": b"66824",
        b"host": b"s3.amazonaws.com",
        b"x-amz-content-sha256": SIGNED.encode(),
        b"x-amz-date": DATE.encode(),
        b"x-amz-decoded-content-length": b"66560",
        b"x-amz-storage-class": b"REDUCED_REDUNDANCY",
    }
    names = tuple(sorted(name.decode() for name in headers))
    claim = sigv4.Claim(SCOPE, DATE, names, SEED.signature)
    assert sigv4.verify(claim, SECRET, "PUT", b"/examplebucket/chunkObject.txt", [], headers, SIGNED) == SEED


@pytest.mark.parametrize("step", [1 << 20, 1_000, 63])
def test_the_published_chunks_are_believed_however_they_arrive(step: int) -> None:
    assert decode(ChunkedDecoder(SIGNED, SEED, 66_560), PUBLISHED, step) == CONTENT


@pytest.mark.parametrize("step", [1 << 20, 777])
def test_the_published_trailer_is_believed(step: int) -> None:
    decoder = ChunkedDecoder(SIGNED_TRAILER, SEED_TRAILER, 66_560)
    assert decode(decoder, PUBLISHED_TRAILER, step) == CONTENT
    assert decoder.trailers == {"x-amz-checksum-crc32c": "sOO8/Q=="}


def test_unsigned_chunks_bring_their_trailer() -> None:
    decoder = ChunkedDecoder(UNSIGNED_TRAILER, None, 5)
    assert decode(decoder, b"3\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", 1) == b"abcde"
    assert decoder.trailers == {"x-amz-checksum-crc32": "AAAAAA=="}


def test_the_upload_ends_at_the_chunk_whose_signature_is_wrong() -> None:
    decoder = ChunkedDecoder(SIGNED, SEED, 66_560)
    first = PUBLISHED.index(b"400;")
    assert sum(map(len, decoder.feed(PUBLISHED[:first]))) == 65_536
    with pytest.raises(SignatureDoesNotMatch):
        decoder.feed(PUBLISHED[first:].replace(b"a" * 1_024, b"a" * 1_023 + b"b"))


def test_a_changed_trailer_is_refused() -> None:
    with pytest.raises(SignatureDoesNotMatch):
        decode(ChunkedDecoder(SIGNED_TRAILER, SEED_TRAILER, 66_560), PUBLISHED_TRAILER.replace(b"sOO8", b"sOO9"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"3\r\nabc\r\n",
        b"3\r\nab",
        b"zz\r\n",
        b"0\r\n\r\n",
        b"3\r\nabc\r\n0\r\n\r\nx",
        b"4\r\nabcd\r\n0\r\n\r\n",
        b"5" * 5_000,
    ],
)
def test_a_body_that_is_not_whole_is_incomplete(body: bytes) -> None:
    with pytest.raises(IncompleteBody):
        decode(ChunkedDecoder(UNSIGNED_TRAILER, None, 3), body)


def signed(seed: sigv4.Seed, pieces: list[bytes]) -> bytes:
    body, previous, empty = b"", seed.signature, sha256(b"").hexdigest()
    for piece in [*pieces, b""]:
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{seed.date}\n{seed.scope}\n{previous}\n{empty}\n{sha256(piece).hexdigest()}"
        previous = hmac.digest(seed.key, text.encode(), "sha256").hex()
        body += b"%x;chunk-signature=%s\r\n%s\r\n" % (len(piece), previous.encode(), piece)
    return body


@settings(max_examples=50)
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5), st.integers(1, 400), st.data())
def test_one_changed_byte_is_never_content_that_is_believed(
    pieces: list[bytes], step: int, data: st.DataObject
) -> None:
    content, body = b"".join(pieces), signed(SEED, pieces)
    assert decode(ChunkedDecoder(SIGNED, SEED, len(content)), body, step) == content
    at = data.draw(st.integers(0, len(body) - 1))
    spoilt = body[:at] + bytes([body[at] ^ data.draw(st.integers(1, 255))]) + body[at + 1 :]
    with suppress(Problem):
        assert decode(ChunkedDecoder(SIGNED, SEED, len(content)), spoilt, step) == content


@settings(max_examples=50)
@given(st.binary(max_size=500), st.sampled_from([SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER]))
def test_rubbish_is_an_error_of_ours_and_never_another(body: bytes, form: str) -> None:
    with suppress(Problem):
        decode(ChunkedDecoder(form, SEED, 10), body)
