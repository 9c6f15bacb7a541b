"""What every embedder promises, checked against oracles."""

import asyncio

import numpy as np
import pytest
from tiny_zhinao import write_search

from models.embed import E5Embedder
from models.fakes import HashEmbedder
from pipeline.errors import TooLarge
from pipeline.ports import Embedder
from pipeline.types import Passage

PASSAGES = [
    Passage("员工手册 > 年假", "入职满一年的员工每年有五天年假，满十年的有十天。"),
    Passage("", "The warranty covers 24 months from the date of purchase."),
    Passage("", "好"),
    Passage(
        "Security > Passwords", "Passwords expire after 90 days and must have 12 characters. " * 6
    ),
    Passage("", "海河在天津汇入渤海。" * 12),
    Passage("", "ＦＵＬＬ　ｗｉｄｔｈ and emoji 🚀🚀, v3.9.3, ①②③, ﬁne"),
    Passage("", "Short."),
]


@pytest.fixture(params=["e5", "hash"])
def encoder(request) -> Embedder:
    """Knows what words mean, or at least which are the same, and gives token vectors."""
    return HashEmbedder() if request.param == "hash" else request.getfixturevalue("e5_embedder")


@pytest.fixture(scope="module")
def zhinao_embedder(tmp_path_factory):
    from models.zhinao_embed import ZhinaoEmbedder

    loaded = ZhinaoEmbedder.load(write_search(tmp_path_factory.mktemp("search")), device="cpu")
    yield loaded
    loaded.close()


@pytest.fixture(params=["e5_embedder", "hash", "zhinao_embedder"])
def embedder(request) -> Embedder:
    return HashEmbedder() if request.param == "hash" else request.getfixturevalue(request.param)


def read(passage: Passage) -> str:
    return f"{passage.context}\n{passage.text}" if passage.context else passage.text


async def test_vectors_have_the_stated_shape_and_unit_length(embedder):
    embedded = await embedder.embed_passages(PASSAGES)
    assert embedded.vectors.shape == (len(PASSAGES), embedder.dim)
    assert embedded.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embedded.vectors, axis=1), 1, atol=1e-5)
    assert (embedded.tokens is None) == (embedder.token_dim is None)
    for passage, tokens in zip(PASSAGES, embedded.tokens or (), strict=embedded.tokens is not None):
        assert tokens.shape[1] == embedder.token_dim
        assert 0 < len(tokens) < embedder.count_tokens(read(passage))
        np.testing.assert_allclose(np.linalg.norm(tokens, axis=1), 1, atol=1e-5)


async def test_embedding_together_equals_embedding_one_by_one(embedder):
    together = await embedder.embed_passages(PASSAGES)
    for number, passage in enumerate(PASSAGES):
        alone = await embedder.embed_passages([passage])
        np.testing.assert_allclose(together.vectors[number], alone.vectors[0], atol=1e-4)
        if embedder.token_dim is not None:
            np.testing.assert_allclose(together.tokens[number], alone.tokens[0], atol=2e-3)


async def test_the_same_call_gives_the_same_bytes(embedder):
    first = await embedder.embed_passages(PASSAGES)
    second = await embedder.embed_passages(PASSAGES)
    assert first.vectors.tobytes() == second.vectors.tobytes()
    tokens = [[t.tobytes() for t in embedded.tokens or ()] for embedded in (first, second)]
    assert tokens[0] == tokens[1]


async def test_a_question_is_nearest_to_the_passage_that_shares_its_words(encoder):
    asked = await encoder.embed_queries(
        ["员工每年有几天年假？", "How many months does the warranty cover?"]
    )
    embedded = await encoder.embed_passages(PASSAGES)
    assert (asked.vectors @ embedded.vectors.T).argmax(axis=1).tolist() == [0, 1]


async def test_the_context_is_embedded_as_if_it_stood_above_the_text(embedder):
    apart = await embedder.embed_passages([Passage("年假", "五天")])
    joined = await embedder.embed_passages([Passage("", "年假\n五天")])
    np.testing.assert_array_equal(apart.vectors, joined.vectors)


@pytest.mark.parametrize("word", ["字 ", "word "])
async def test_count_tokens_says_which_passages_fit(embedder, word):
    """The longest passage that `count_tokens` admits is read, and one word more is refused."""
    frame = embedder.count_tokens("")
    each = embedder.count_tokens(word * 11) - embedder.count_tokens(word * 10)
    words = (embedder.max_tokens - frame) // each + 1
    while embedder.count_tokens(word * words) > embedder.max_tokens:
        words -= 1
    assert embedder.count_tokens(word * (words + 1)) > embedder.max_tokens
    embedded = await embedder.embed_passages([Passage("", word * words)])
    if embedded.tokens is not None:
        assert len(embedded.tokens[0]) > 0.9 * (embedder.max_tokens - frame)
    with pytest.raises(TooLarge, match="token"):
        await embedder.embed_passages([Passage("", "fits"), Passage("", word * (words + 1))])


async def test_a_long_query_is_read_from_its_beginning(embedder):
    beginning = "年假 五天 " * 600
    one, other = (await embedder.embed_queries([beginning + "甲", beginning + "乙 海河"])).vectors
    np.testing.assert_array_equal(one, other)


async def test_no_texts_give_no_vectors(embedder):
    assert (await embedder.embed_passages([])).vectors.shape == (0, embedder.dim)
    assert (await embedder.embed_queries([])).vectors.shape == (0, embedder.dim)


async def test_calls_at_the_same_time_do_not_mix(embedder):
    wanted = (await embedder.embed_passages(PASSAGES)).vectors
    found = await asyncio.gather(*(embedder.embed_passages([passage]) for passage in PASSAGES))
    np.testing.assert_allclose([one.vectors[0] for one in found], wanted, atol=1e-4)


async def test_token_places_point_at_the_words_they_stand_for(encoder):
    question = "How many months does the ｗａｒｒａｎｔｙ cover?"
    asked = await encoder.encode_question(question)
    assert len(asked.vectors) == len(asked.places)
    shown = [question[start:end] for start, end in asked.places if start >= 0]
    assert "".join(shown).rstrip("?") == question.replace(" ", "").rstrip("?")
    assert "months" in shown


async def test_context_tokens_have_no_place_in_the_text(encoder):
    passage = Passage("Leave > Annual", "Annual leave is five days.")
    [encoding] = await encoder.encode_tokens([passage])
    starts = encoding.places[:, 0]
    inside = encoding.places[starts >= 0]
    assert (starts[: int(np.argmax(starts >= 0))] == -1).all()
    assert (starts == -1).any()
    start, end = inside[0]
    assert start == 0
    assert "Annual".startswith(passage.text[start:end])
    assert inside[-1][1] >= len(passage.text) - 1
    np.testing.assert_allclose(np.linalg.norm(encoding.vectors, axis=1), 1, atol=1e-5)


def test_embedders_of_other_kinds_have_other_fingerprints(e5_embedder: E5Embedder):
    assert (
        len({e5_embedder.fingerprint, HashEmbedder().fingerprint, HashEmbedder(dim=32).fingerprint})
        == 3
    )
