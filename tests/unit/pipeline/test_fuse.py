import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.calibration import NO_BACKGROUND, Background, Calibration, weigh
from pipeline.fuse import fused, reranked, shifted
from pipeline.types import Script, SearchMode

PLAIN = Calibration(NO_BACKGROUND)
SCORES = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40)


def array(values: list[float]) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)


@given(SCORES)
def test_the_shift_keeps_the_order_within_a_script(cosines: list[float]) -> None:
    out = shifted(array(cosines), [Script.HAN] * len(cosines), {Script.HAN: 0.8})
    assert list(np.argsort(-out, kind="stable")) == list(
        np.argsort(-array(cosines) + np.float32(0.8), kind="stable")
    )


def test_the_shift_makes_scripts_comparable() -> None:
    out = shifted(
        array([0.82, 0.75]), [Script.HAN, Script.LATIN], {Script.HAN: 0.82, Script.LATIN: 0.71}
    )
    assert out[1] > out[0]


def test_hybrid_is_cosine_and_words_and_phrase_with_their_weights() -> None:
    out = fused(array([0.5]), array([0.4]), array([1.0]), SearchMode.HYBRID, PLAIN)
    assert np.isclose(out[0], 0.5 + 0.15 * 0.4 + 0.10)


def test_a_mode_leaves_the_other_leg_out() -> None:
    legs = array([0.5]), array([0.4]), array([0.0])
    assert np.isclose(fused(*legs, SearchMode.DENSE, PLAIN)[0], 0.5)
    assert np.isclose(fused(*legs, SearchMode.WORDS, PLAIN)[0], 0.06)


@given(SCORES)
def test_equal_rerank_scores_keep_the_order(scores: list[float]) -> None:
    ordered = array(sorted(scores, reverse=True))
    out = reranked(
        ordered, np.full(len(scores), 0.7, dtype=np.float32), [Script.HAN] * len(scores), 0.5
    )
    assert np.allclose(out, ordered, atol=1e-6)


def test_a_rerank_score_counts_against_its_scripts_level() -> None:
    """A Latin passage that stands out among Latin ones passes a Han one that does not among Han ones."""
    scripts = [Script.HAN] * 4 + [Script.LATIN] * 4
    rerank = array([0.90, 0.90, 0.90, 0.90, 0.85, 0.60, 0.60, 0.60])
    out = reranked(np.zeros(8, dtype=np.float32), rerank, scripts, 0.5)
    assert int(np.argmax(out)) == 4


def test_the_background_vanishes_as_a_collection_grows() -> None:
    mean = np.asarray([1.0, 0.0], dtype=np.float32)
    background = Background({Script.HAN: np.asarray([0.0, 1.0], dtype=np.float32)}, {"保修": 0.5})
    assert np.allclose(background.mean(Script.HAN, mean, 0), [0, 1])
    assert np.allclose(background.mean(Script.HAN, mean, 10**7), [1, 0], atol=1e-4)
    assert background.idf("保修", 0, 0) < background.idf("罕见", 0, 0)


def test_a_term_that_no_passage_has_still_weighs() -> None:
    weighed = weigh(["保修", "罕见"], [5, 0], 10, NO_BACKGROUND)
    assert weighed.weights["罕见"] > weighed.weights["保修"] > 0
