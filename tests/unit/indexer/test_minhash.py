"""MinHash against the exact Jaccard similarity of the shingles."""

import random
import unicodedata

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from indexer.catalog.minhash import BANDS, SHINGLE, bands, signature, similarity

HAN = "年假为五天病需要医院证明出差标准每人三百元保修期二十四个月滤网建议更换"


def shingles(text: str) -> set[str]:
    letters = "".join(unicodedata.normalize("NFKC", text).casefold().split())
    return {letters[i : i + SHINGLE] for i in range(len(letters) - SHINGLE + 1)}


def jaccard(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def written(seed: int, sentences: int, letters: str = HAN) -> list[str]:
    dice = random.Random(seed)
    return ["".join(dice.choices(letters, k=30)) + "。" for _ in range(sentences)]


@pytest.mark.parametrize("letters", [HAN, "abcdefghijklmnop qrs tuv"])
@pytest.mark.parametrize("changed", [0, 2, 5, 10, 30, 60])
def test_the_estimate_is_the_exact_similarity_within_its_error(letters: str, changed: int) -> None:
    one, new = written(1, 60, letters), written(2, 60, letters)
    two = new[:changed] + one[changed:]
    first, second = signature("\n".join(one)), signature("\n".join(two))
    assert first is not None
    assert second is not None
    exact = jaccard("".join(one), "".join(two))
    assert similarity(first, second) == pytest.approx(exact, abs=0.13)  # three standard errors
    shared = set(bands(first)) & set(bands(second))
    assert bool(shared) or exact < 0.85
    assert len(shared) < BANDS or exact > 0.9


@given(st.text(min_size=30))
@settings(deadline=None)
def test_case_width_and_white_space_make_no_difference(text: str) -> None:
    plain = signature(text)
    assume(plain is not None)
    spread = signature(" \n".join(text))
    assume(
        "".join(unicodedata.normalize("NFKC", " ".join(text)).casefold().split())
        == "".join(unicodedata.normalize("NFKC", text).casefold().split())
    )
    np.testing.assert_array_equal(plain, spread)
    assert similarity(plain, spread) == 1


@given(st.text())
@settings(deadline=None)
def test_any_text_has_a_signature_or_is_too_short(text: str) -> None:
    signed = signature(text)
    letters = "".join(unicodedata.normalize("NFKC", text).casefold().split())
    assert (signed is None) == (len(letters) < 2 * SHINGLE - 1)
    if signed is not None:
        assert len(set(bands(signed))) == BANDS
        assert all(-(2**63) <= band < 2**63 for band in bands(signed))
    full = "ＡＢＣ年假１２３"
    assert np.array_equal(signature(full * 3), signature("abc年假123" * 3))


def test_a_long_text_is_signed_in_blocks_as_in_one() -> None:
    text = "".join(written(3, 2500))
    signed = signature(text)
    assert signed is not None
    half = signature(text[: len(text) // 2])
    assert similarity(signed, half) == pytest.approx(0.5, abs=0.15)
