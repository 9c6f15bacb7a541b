import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_zhinao import read_weights, write_search
from transformers import AutoTokenizer, BertConfig, BertModel

from models.wordpiece import WordPiece
from models.zhinao_embed import INSTRUCTION, ZhinaoEmbedder
from pipeline.errors import ModelUnavailable, RagError, TooLarge
from pipeline.types import Passage

TEXTS = [
    "空气净化器的主机保修期为三十六个月。",
    "The warranty covers 24 months.",
    "员工年假",
    "好 🚀 x",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_search(tmp_path_factory.mktemp("models") / "search")


@pytest.fixture(scope="module")
def embedder(folder: Path) -> Iterator[ZhinaoEmbedder]:
    loaded = ZhinaoEmbedder.load(folder, device="cpu")
    yield loaded
    loaded.close()


def plain_bert(folder: Path) -> BertModel:
    model = BertModel(BertConfig.from_pretrained(folder))
    weights = read_weights(folder)
    model.load_state_dict({name.removeprefix("bert."): weight for name, weight in weights.items()})
    return model.eval()


def oracle(folder: Path, text: str) -> np.ndarray:
    """One text by itself, tokenised and computed by transformers' own classes."""
    words = AutoTokenizer.from_pretrained(folder)
    read = words(text, truncation=True, max_length=512, return_tensors="pt")
    with torch.no_grad():
        vector = plain_bert(folder)(**read).last_hidden_state[0, 0].numpy()
    return vector / np.linalg.norm(vector)


async def test_a_passage_is_the_unit_first_state_of_bert(folder: Path, embedder) -> None:
    embedded = await embedder.embed_passages([Passage("", text) for text in TEXTS])
    assert embedded.tokens is None
    assert embedded.vectors.dtype == np.float32
    for text, vector in zip(TEXTS, embedded.vectors, strict=True):
        np.testing.assert_allclose(vector, oracle(folder, text), atol=1e-5)


async def test_a_query_is_read_after_the_instruction_and_cut_at_512(folder: Path, embedder) -> None:
    long = "年假三十六个月" * 100
    embedded = await embedder.embed_queries([TEXTS[0], long])
    for text, vector in zip([TEXTS[0], long], embedded.vectors, strict=True):
        np.testing.assert_allclose(vector, oracle(folder, INSTRUCTION + text), atol=1e-5)


async def test_a_passage_of_512_tokens_is_read_and_one_of_513_is_not(embedder) -> None:
    assert embedder.count_tokens("年" * 510) == embedder.max_tokens == 512
    await embedder.embed_passages([Passage("年假", "年" * 508)])
    with pytest.raises(TooLarge, match="has 513 tokens"):
        await embedder.embed_passages([Passage("年假", "年" * 509)])


def test_tokens_are_counted_as_transformers_counts_them(folder: Path, tmp_path: Path) -> None:
    theirs = AutoTokenizer.from_pretrained(folder)
    texts = [*TEXTS, "", "  ÀÉ naïve\tx\u200d", "a" * 300, "1,234.5％"]
    mine = WordPiece.load(folder)
    assert [mine.ids(text) for text in texts] == [theirs(text)["input_ids"] for text in texts]
    theirs.save_pretrained(tmp_path)
    again = WordPiece.load(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
    assert [again.ids(text) for text in texts] == [mine.ids(text) for text in texts]
    for words in (mine, again):  # a mark inside a text is text
        ids = words.ids("[SEP] [MASK] [CLS]")
        assert (ids.count(words.first), ids.count(words.last)) == (1, 1)
        assert words.tokenizer.token_to_id("[MASK]") not in ids


def test_case_matters_where_the_config_says_so(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "vocab.txt", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    unknown = WordPiece.load(tmp_path).tokenizer.token_to_id("[UNK]")
    assert unknown in WordPiece.load(tmp_path).ids("ABC")
    assert unknown not in WordPiece.load(folder).ids("ABC")


async def test_a_converted_folder_gives_the_same_vectors(folder, embedder, tmp_path: Path) -> None:
    plain_bert(folder).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    converted = ZhinaoEmbedder.load(tmp_path, device="cpu")
    passages = [Passage("", text) for text in TEXTS]
    np.testing.assert_allclose(
        (await converted.embed_passages(passages)).vectors,
        (await embedder.embed_passages(passages)).vectors,
        atol=1e-6,
    )
    converted.close()


def changed(folder: Path, target: Path, name: str, change) -> Path:
    shutil.copytree(folder, target)
    path = target / name
    path.write_bytes(change(path.read_bytes()))
    return target


def test_the_fingerprint_follows_weights_and_vocabulary(folder, embedder, tmp_path: Path) -> None:
    same = ZhinaoEmbedder.load(folder, device="cpu")
    assert same.fingerprint == embedder.fingerprint
    same.close()
    others = [
        write_search(tmp_path / "weights", seed=1),
        changed(folder, tmp_path / "words", "vocab.txt", lambda data: data.replace(b"\xe5\xb9\xb4", b"\xe5\xb9\xb5")),
    ]  # fmt: skip
    prints = {embedder.fingerprint}
    for other in others:
        loaded = ZhinaoEmbedder.load(other, device="cpu")
        prints.add(loaded.fingerprint)
        loaded.close()
    assert len(prints) == 3


def without(name: str):
    def change(data: bytes) -> bytes:
        options = json.loads(data)
        options.pop(name)
        return json.dumps(options).encode()

    return change


def replaced(old: bytes, new: bytes):
    return lambda data: data.replace(old, new)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("pytorch_model.bin", lambda data: data[: len(data) // 2], "truncated"),
        ("pytorch_model.bin", lambda data: b"", "empty"),
        ("config.json", without("architectures"), "360Zhinao-search"),
        ("config.json", replaced(b'"bert"', b'"t5"'), "t5"),
        ("config.json", lambda data: data[:-9], "JSON"),
        ("config.json", replaced(b'"intermediate_size": 256', b'"intermediate_size": 64'), "other shapes"),
        ("config.json", replaced(b'"num_hidden_layers": 2', b'"num_hidden_layers": 3'), "lack 16 tensors"),
        ("vocab.txt", replaced(b"[UNK]", b"[unk]"), r"\[UNK\]"),
        ("vocab.txt", replaced(b"[CLS]", b"[cls]"), r"\[CLS\]"),
        ("vocab.txt", lambda data: b"\xff\xfe", "vocab.txt"),
    ],
)  # fmt: skip
def test_a_damaged_folder_is_named(folder: Path, tmp_path: Path, name, change, says) -> None:
    damaged = changed(folder, tmp_path / "damaged", name, change)
    with pytest.raises(RagError, match=says) as caught:
        ZhinaoEmbedder.load(damaged, device="cpu")
    assert str(damaged) in str(caught.value)


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(RagError, match=r"config\.json"):
        ZhinaoEmbedder.load(tmp_path / "nowhere", device="cpu")


async def test_a_closed_embedder_is_unavailable(folder: Path) -> None:
    closed = ZhinaoEmbedder.load(folder, device="cpu")
    closed.close()
    with pytest.raises(ModelUnavailable, match="was closed"):
        await closed.embed_queries(["x"])
