"""Sentences are scored by what they share with the question."""

import numpy as np
import pytest

from models.fakes import HashEmbedder
from models.sentence_scorer import (
    CosineSentenceScorer,
    TokenEncoding,
    TokenSentenceScorer,
    token_weights,
)
from pipeline.sentences import sentences
from pipeline.types import Passage, Span

PASSAGES = [
    Passage("Warranty", "The warranty covers 24 months. Batteries are left out. Keep the receipt."),
    Passage("", "年假为五天。病假另算。"),
    Passage("Empty of sentences", "nothing"),
]
SPANS = [sentences(PASSAGES[0].text), sentences(PASSAGES[1].text), []]


@pytest.fixture(params=["hash tokens", "hash cosine", "e5 tokens", "e5 cosine"])
def scorer(request):
    model, kind = request.param.split()
    embedder = HashEmbedder() if model == "hash" else request.getfixturevalue("e5_embedder")
    return TokenSentenceScorer(embedder) if kind == "tokens" else CosineSentenceScorer(embedder)


@pytest.mark.parametrize(
    ("question", "passage", "sentence"),
    [
        ("How many months does the warranty cover?", 0, 0),
        ("Are batteries left out?", 0, 1),
        ("年假有几天？", 1, 0),
    ],
)
async def test_the_sentence_that_answers_is_the_best_of_its_passage(
    scorer, question, passage, sentence
):
    scores = await scorer.score(question, {"warranti": 3.0, "month": 2.0}, PASSAGES, SPANS)
    assert [len(own) for own in scores] == [3, 2, 0]
    assert int(np.argmax(scores[passage])) == sentence


async def test_no_sentences_need_no_model(scorer):
    assert await scorer.score("?", {}, PASSAGES, [[], [], []]) == [[], [], []]


async def test_a_whole_question_in_a_sentence_scores_one_and_a_stranger_less():
    scorer = TokenSentenceScorer(HashEmbedder())
    [[same, other]] = await scorer.score(
        "the red fox",
        {"red": 1.0},
        [Passage("", "See the red fox. Cows moo.")],
        [[Span(0, 16), Span(17, 26)]],
    )
    assert same == pytest.approx(1, abs=1e-5)
    assert other < 0.5


async def test_scores_are_the_weighted_mean_of_the_best_cosines_in_the_sentence():
    asked = np.eye(3, dtype=np.float32)
    read = np.array([[1, 0, 0], [0.6, 0.8, 0], [0, 0, 1], [0, 1, 0]], np.float32)

    class Fixed:
        async def encode_question(self, _text):
            return TokenEncoding(asked, np.array([[0, 1], [2, 3], [3, 4]]))

        async def encode_tokens(self, _passages):
            return [TokenEncoding(read, np.array([[-1, -1], [0, 2], [2, 4], [5, 7]]))]

    question, weights = "x y?", {"x": 4.0, "y": 2.0}
    share = token_weights(question, np.array([[0, 1], [2, 3], [3, 4]]), weights)
    np.testing.assert_allclose(share, np.array([4, 2, 1.2]) / 7.2, rtol=1e-6)
    [scores] = await TokenSentenceScorer(Fixed()).score(
        question, weights, [Passage("c", "abcd efgh")], [[Span(0, 4), Span(5, 9), Span(8, 9)]]
    )
    assert scores == pytest.approx([(4 * 0.6 + 2 * 0.8 + 1.2 * 1) / 7.2, 2 / 7.2, 0.0], rel=1e-5)


@pytest.mark.parametrize("weights", [{}, {"absent": 0.0}])
def test_without_terms_all_tokens_weigh_the_same(weights):
    places = np.array([[0, 1], [1, 2]])
    assert token_weights("ab", places, weights).tolist() == [0.5, 0.5]
    assert token_weights("", np.zeros((0, 2), np.int64), weights).tolist() == []


def test_a_term_is_found_in_other_widths_and_cases():
    share = token_weights("ＷＡＲＲＡＮＴＹ is", np.array([[0, 8], [9, 11]]), {"warranti": 1.0})
    np.testing.assert_allclose(share, np.array([1, 0.3]) / 1.3, rtol=1e-6)


def test_a_token_weighs_as_much_as_the_rarest_pair_it_touches():
    share = token_weights("保修期", np.array([[0, 1], [1, 3]]), {"保修": 1.0, "修期": 3.0})
    np.testing.assert_allclose(share, np.array([1, 3]) / 4, rtol=1e-6)
