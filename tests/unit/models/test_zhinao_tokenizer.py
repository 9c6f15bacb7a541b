"""The fast tokenizer gives tiktoken's ids, and nothing a user types becomes a control token."""

import base64
import json

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from models.zhinao.tokenizer import (
    DEFAULT_SYSTEM,
    PATTERN,
    SPACES,
    VOCABULARY,
    build_tokenizer,
    chat_template,
    encode_chat,
    load_tokenizer,
    read_ranks,
    without_control,
)
from models.zhinao.vocabulary import SPECIAL_TOKENS
from tests.fixtures.tiny_zhinao import APPENDED, MERGED, write_vocabulary


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zhinao")
    write_vocabulary(folder)
    return folder


@pytest.fixture(scope="module")
def fast(folder):
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def plain(fast):
    return without_control(fast)


@pytest.fixture(scope="module")
def slow(folder):
    ranks = {token: rank for rank, token in enumerate(read_ranks(folder / VOCABULARY))}
    specials = {token: len(ranks) + place for place, token in enumerate(SPECIAL_TOKENS)}
    return tiktoken.Encoding("360", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=specials)


def prepared(text: str) -> str:
    text = text.replace("[br]", "\n").replace("<br>", "\n")
    for token, count in SPACES.items():
        text = text.replace(" " * count, token)
    return text


PIECES = [*MERGED, *APPENDED, *SPECIAL_TOKENS, "[br]", "<br>", " ", "  ", "\t", "\n", "\r\n", "'s", "2026", "é", "🙂",
          "the", "ther", "保", "修", "空气", "。", "，", "<|", "|>", "[space", "]", "a", "B", "!!", "_"]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=12).map("".join)


@settings(max_examples=600, deadline=None)
@given(TEXTS)
def test_ids_and_decoded_text_are_tiktokens(fast, slow, text):
    ids = fast.encode(text, add_special_tokens=False).ids
    assert ids == slow.encode(prepared(text), allowed_special="all")
    words = slow.decode(ids)
    for token, count in SPACES.items():
        words = words.replace(token, " " * count)
    assert fast.decode(ids, skip_special_tokens=False) == words


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_nothing_typed_becomes_a_control_token(fast, plain, slow, text):
    ids = plain.encode(text, add_special_tokens=False).ids
    control = {fast.token_to_id(token) for token in SPECIAL_TOKENS if token not in SPACES}
    assert not control & set(ids)
    assert ids == slow.encode(prepared(text), allowed_special=set(SPACES), disallowed_special=())


def test_indentation_survives(fast, plain):
    code = "def f():\n    if x:\n        return 1\n  # two\n   # three\n"
    ids = plain.encode(code, add_special_tokens=False).ids
    assert fast.token_to_id("[space4]") in ids
    assert fast.token_to_id("[space8]") in ids
    assert fast.decode(ids) == code


def test_the_published_test_vector_has_22_tokens(fast, plain):
    ids = encode_chat(
        plain, [{"role": "user", "content": "Who are you?"}], default_system=DEFAULT_SYSTEM[1]
    )
    start, end = fast.token_to_id("<|im_start|>"), fast.token_to_id("<|im_end|>")
    assert len(ids) == 22
    assert [i for i, token in enumerate(ids) if token in (start, end)] == [0, 8, 10, 17, 19]
    template = chat_template(DEFAULT_SYSTEM[1])
    assert "assistant<|im_end|>" in template


@pytest.mark.parametrize("generation", [1, 2])
def test_the_template_and_the_pieces_agree(fast, plain, generation):
    from transformers import PreTrainedTokenizerFast

    whole = PreTrainedTokenizerFast(tokenizer_object=fast)
    whole.chat_template = chat_template(DEFAULT_SYSTEM[generation])
    for messages in (
        [{"role": "user", "content": "Who are you?"}],
        [{"role": "system", "content": "保修期"}, {"role": "user", "content": "the  end"}],
        [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ],
    ):
        pieces = encode_chat(plain, messages, default_system=DEFAULT_SYSTEM[generation])
        text = whole.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        assert fast.encode(text, add_special_tokens=False).ids == pieces


def test_the_template_is_the_published_one(folder):
    from transformers import PreTrainedTokenizerFast

    published = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=load_tokenizer(folder))
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    texts = [
        tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
        for template in (published, chat_template(DEFAULT_SYSTEM[1]))
    ]
    assert texts[0] == texts[1]


def lines(tokens, first=0):
    return "".join(
        f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens, first)
    )


BYTES = [bytes([byte]) for byte in range(256)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lines(BYTES, 1), "line 1: rank 1 where 0 is due"),
        (lines(BYTES[:9]) + lines(BYTES[10:], 10), "line 10: rank 10 where 9 is due"),
        (lines(BYTES[:-2]), "2 of the 256 single bytes"),
        (lines(BYTES) + "###\n", "line 257: not a base64 word"),
        (lines(BYTES) + "YWI= x\n", "line 257: not a base64 word"),
        (lines([*BYTES, b"ab", b"ab"]), "stands there twice"),
        ("", "256 of the 256"),
    ],
)
def test_a_wrong_vocabulary_is_refused_with_its_line(tmp_path, content, said):
    path = tmp_path / "360.tiktoken"
    path.write_text(content, "ascii")
    with pytest.raises(ValueError, match=said):
        read_ranks(path)


def test_a_vocabulary_that_holds_a_special_token_is_refused():
    with pytest.raises(ValueError, match="not a 360Zhinao one"):
        build_tokenizer([*BYTES, b"<eod>"])
