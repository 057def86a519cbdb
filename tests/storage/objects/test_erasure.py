"""The erasure code: any k of k+m shards give every byte back, whichever way the sums are done."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.storage.objects import galois
from mainspring.storage.objects.erasure import CODEC_BYTES, Profile, compute, decode, encode, shard_length


@st.composite
def stripes(draw: st.DrawFn) -> tuple[Profile, bytes, list[int]]:
    """A profile, a payload, and the indexes of k shards that are left."""
    profile = Profile(draw(st.integers(1, 12)), draw(st.integers(1, 5)))
    size = draw(st.one_of(st.integers(1, 300), st.integers(1, 20_000)))
    left = draw(st.permutations(range(profile.shards)))[: profile.k]
    return profile, Random(draw(st.integers(0, 99))).randbytes(size), left


@pytest.fixture(params=["isa-l", "tables"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "tables":
        monkeypatch.setattr(galois, "_isal", lambda: None)
    else:
        assert galois._isal() is not None, "pyeclib's wheel brings ISA-L along"


@settings(max_examples=40, deadline=None)
@given(stripe=stripes())
@pytest.mark.usefixtures("way")
def test_any_k_shards_give_the_payload_back(stripe: tuple[Profile, bytes, list[int]]) -> None:
    profile, payload, left = stripe
    fragments = encode(payload, profile)
    assert decode({index: fragments[index] for index in left}, profile, len(payload)) == payload


@settings(max_examples=40, deadline=None)
@given(stripe=stripes(), cut=st.tuples(st.floats(0, 1), st.floats(0, 1)))
@pytest.mark.usefixtures("way")
def test_a_range_of_a_missing_shard_is_made_of_that_range_of_the_others(
    stripe: tuple[Profile, bytes, list[int]], cut: tuple[float, float]
) -> None:
    profile, payload, left = stripe
    length = shard_length(len(payload), profile.k)
    low, high = sorted(int(share * length) for share in cut)
    high = max(high, low + 1)
    if high > length:
        low, high = length - 1, length
    fragments = encode(payload, profile)
    missing = [index for index in range(profile.k) if index not in left]
    parts = {index: fragments[index][CODEC_BYTES + low : CODEC_BYTES + high] for index in left}
    made = compute(parts, missing, profile, 0, high - low)
    assert [bytes(one) for one in made] == [
        fragments[index][CODEC_BYTES + low : CODEC_BYTES + high] for index in missing
    ]


def test_what_is_too_short_is_refused_and_never_read_past_its_end() -> None:
    with pytest.raises(ValueError, match="do not have 4 from 1 on"):
        galois.combine([(1, 1)], [bytes(5), bytes(4)], 1, 4)
