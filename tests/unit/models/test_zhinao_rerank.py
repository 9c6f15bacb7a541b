import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_zhinao import read_weights, reference_qwen2, write_chat, write_reranker

from models.checkpoint.convert import convert
from models.checkpoint.score_position import ScorePosition
from models.zhinao_folder import Words
from models.zhinao_rerank import Prompt, ZhinaoReranker
from pipeline.errors import ModelUnavailable, RagError
from pipeline.ports import EncodedQuery
from pipeline.types import Chunk, ChunkId, DocumentId, Hit, Key, Script

PASSAGES = ["保修期为三十六个月。", "The river flows east.", "x", "空气净化器 " * 60, "a\n\nb    c"]
QUERY = "空气净化器的保修期多长？"


def hit(text: str, context: str = "") -> Hit:
    chunk = Chunk(
        ChunkId(text), Key(1), DocumentId("d"), "d", 1, text, 0, len(text), None, (), context, Script.HAN
    )  # fmt: skip
    return Hit(chunk, 0.0)


def asked(text: str) -> EncodedQuery:
    return EncodedQuery(text, torch.zeros(1).numpy(), None, {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reranker(tmp_path_factory.mktemp("models") / "reranker", bias=True)


@pytest.fixture(scope="module")
def words(folder: Path) -> Words:
    return Words.load(folder)


@pytest.fixture(scope="module")
def reranker(folder: Path) -> Iterator[ZhinaoReranker]:
    loaded = ZhinaoReranker.load(folder, device="cpu")
    yield loaded
    loaded.close()


def reference_ids(words: Words, query: str, passage: str) -> list[int]:
    """The whole published inference sequence, placeholder and all."""
    start, end = words.control("<|im_start|>"), words.control("<|im_end|>")
    line = words.ids("\n")
    ids = [start, *words.ids("system"), *line, end, *line, start, *words.ids("user"), *line]
    ids += [*words.ids(f"{query}\n\n{passage}")[:960], end, *line, start, *words.ids("assistant")]
    return [*ids, *line, *words.ids("0"), end, *line]


def oracle(folder: Path, words: Words, passage: str, position: ScorePosition) -> float:
    """One pair by itself, through a Qwen2 with an lm_head, read at the position."""
    weights = read_weights(folder)
    ids = reference_ids(words, QUERY, passage)
    with torch.no_grad():
        states = reference_qwen2(folder).model(torch.tensor([ids])).last_hidden_state[0]
    scores = states @ weights["linear.weight"][0] + weights["linear.bias"]
    match position:
        case ScorePosition.BEFORE_PLACEHOLDER:
            score = scores[-4]
        case ScorePosition.PLACEHOLDER:
            score = scores[-3]
        case ScorePosition.LAST:
            score = scores[-1]
        case ScorePosition.MEAN:
            score = scores.mean()
    return 1 / (1 + math.exp(-float(score)))


@pytest.mark.parametrize("position", list(ScorePosition))
async def test_a_score_is_the_references_at_its_position(
    folder: Path, words: Words, tmp_path: Path, position: ScorePosition
) -> None:
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    config = (own / "config.json").read_text()
    (own / "config.json").write_text(
        config.replace("{", f'{{"score_position": "{position.value}",', 1)
    )
    reranker = ZhinaoReranker.load(own, device="cpu")
    scores = await reranker.score(asked(QUERY), [hit(text) for text in PASSAGES])
    reranker.close()
    wanted = [oracle(folder, words, text, position) for text in PASSAGES]
    assert scores == pytest.approx(wanted, abs=1e-5)


async def test_without_a_setting_it_reads_before_the_placeholder(folder, words, reranker) -> None:
    [score] = await reranker.score(asked(QUERY), [hit(PASSAGES[0])])
    wanted = oracle(folder, words, PASSAGES[0], ScorePosition.BEFORE_PLACEHOLDER)
    assert score == pytest.approx(wanted, abs=1e-5)


async def test_a_converted_folder_scores_as_the_published_one(folder, reranker, tmp_path) -> None:
    convert(folder, tmp_path / "converted", name="360Zhinao-1.8B-Reranking")
    other = ZhinaoReranker.load(tmp_path / "converted", device="cpu")
    hits = [hit(text) for text in PASSAGES]
    scores = await other.score(asked(QUERY), hits)
    other.close()
    assert scores == pytest.approx(await reranker.score(asked(QUERY), hits), abs=1e-5)


async def test_the_context_is_read_above_the_text(reranker) -> None:
    [apart] = await reranker.score(asked("q"), [hit("五天", "年假")])
    [joined] = await reranker.score(asked("q"), [hit("年假\n五天")])
    assert apart == joined


def test_no_word_matrix_is_in_memory(folder: Path, reranker) -> None:
    rows = read_weights(folder)["lm_head.weight"].shape[0]
    matrices = [weight for weight in reranker._backbone.parameters() if len(weight) == rows]
    assert len(matrices) == 1  # the embedding


@given(
    st.text("年假五天 ab\n", max_size=400),
    st.text("保修期 xy\n", max_size=400),
    st.integers(80, 200),
)
@settings(deadline=None, max_examples=60)
def test_a_query_never_pushes_the_passage_out(
    words: Words, query: str, passage: str, most: int
) -> None:
    prompt = Prompt(words, ScorePosition.LAST, most)
    assert len(prompt.row(query, passage)) <= most
    room = most - 64
    body = prompt.body(query, passage)
    both = words.ids(f"{query}\n\n{passage}")
    assert len(body) == min(room, len(both)) or len(words.ids(query)) > room // 2
    if len(both) <= room:
        assert body == both
    elif len(words.ids(query)) <= room // 2:
        assert body == both[:room]
    else:
        rest = words.ids(f"\n\n{passage}")
        share = body[-min(len(rest), room - room // 2) :]
        assert share == rest[: len(share)]
        assert len(body) == room


def test_a_mark_inside_a_text_is_text(words: Words) -> None:
    prompt = Prompt(words, ScorePosition.LAST)
    end = words.control("<|im_end|>")
    assert prompt.row("q", "p").count(end) == prompt.row("q<|im_end|>", "<|im_end|>p").count(end)


def test_a_chat_model_is_no_reranker(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no score head"):
        ZhinaoReranker.load(write_chat(tmp_path), device="cpu")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"ZhinaoForCausalLM"', '"LlamaForCausalLM"', "LlamaForCausalLM"),
        ('"use_cache": true', '"score_position": "middle"', "middle"),
        ('"use_cache": true', '"quantization_config": {"bits": 4}', "int4"),
        ('"num_attention_heads": 4', '"num_attention_heads": 2', "do not fit its config.json"),
        ('"num_hidden_layers": 2', '"num_hidden_layers": 3', "lack 12 tensors"),
    ],
)
def test_a_wrong_config_is_named(folder: Path, tmp_path: Path, old, new, says) -> None:
    wrong = tmp_path / "wrong"
    shutil.copytree(folder, wrong)
    config = (wrong / "config.json").read_text()
    assert old in config
    (wrong / "config.json").write_text(config.replace(old, new))
    with pytest.raises(RagError, match=says):
        ZhinaoReranker.load(wrong, device="cpu")
