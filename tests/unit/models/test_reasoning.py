import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.reasoning import AnswerOnly, opened_thinking
from pipeline.errors import ModelUnavailable

PARTS = st.text("<think>/ab \n", max_size=20)


def answer(text: str, cuts: list[int], *, begun: bool = False) -> str:
    ends = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    only = AnswerOnly(begun=begun)
    pieces = [only.feed(text[a:b]) for a, b in pairwise(ends)]
    return "".join(pieces) + only.end()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("42", "42"),
        ("", ""),
        ("<think>six times seven</think>\n\n42", "42"),
        ("\n<think>a</think>42 </think> <think>b</think>", "42 </think> <think>b</think>"),
        ("The tag <think> opens it.", "The tag <think> opens it."),
        ("<thin", "<thin"),
        ("<think>never ends", ""),
        ("<think></think>", ""),
        (" \n 42", " \n 42"),
    ],
)
def test_the_thinking_is_no_part_of_the_answer(text: str, says: str) -> None:
    assert answer(text, []) == says


def test_a_prompt_may_have_opened_the_thinking() -> None:
    assert answer("hm</think>\n42", [], begun=True) == "42"


@given(PARTS, PARTS, PARTS, st.lists(st.integers(0, 80)), st.booleans())
def test_where_the_text_is_cut_changes_nothing(
    before: str, inside: str, after: str, cuts: list[int], begun: bool
) -> None:
    for text in (before + inside + after, f"<think>{inside}</think>{after}"):
        assert answer(text, cuts, begun=begun) == answer(text, [], begun=begun)


@given(PARTS.filter(lambda text: "</think>" not in text), PARTS)
def test_the_answer_is_what_follows_the_first_closing_tag(inside: str, after: str) -> None:
    assert answer(f"<think>{inside}</think>{after}", []) == after.lstrip()


@pytest.mark.parametrize(
    ("text", "complete", "says"),
    [
        ("hm", True, "hm"),
        ("hm", False, ""),
        ("<think>hm", True, ""),
        ("hm</think> 42", True, "42"),
        ("hm</think>", True, ""),
    ],
)
def test_thinking_that_nothing_closes_is_the_answer_only_if_the_model_ended_it(
    text: str, complete: bool, says: str
) -> None:
    only = AnswerOnly(begun=True)
    assert "".join(map(only.feed, text)) + only.end(complete=complete) == says


TURNS = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}"
)


@pytest.mark.parametrize(
    ("answer", "opens"),
    [
        ("<|im_start|>assistant\n<think>\n", "<think>\n"),
        ("<|im_start|>assistant\n<think>", "<think>"),
        ("<|im_start|>assistant\n", ""),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", ""),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_the_template_says_whether_the_prompt_opens_the_thinking(
    tmp_path: Path, answer: str, opens: str, apart: bool
) -> None:
    ending = "{% if add_generation_prompt %}{{ " + repr(answer) + " }}{% endif %}"
    if apart:
        (tmp_path / "chat_template.jinja").write_text(TURNS + ending)
    fields = {"chat_template": "{{ 1 }}" if apart else TURNS + ending, "bos_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(fields))
    assert opened_thinking(tmp_path) == opens


def test_a_folder_without_a_template_opens_nothing(tmp_path: Path) -> None:
    assert opened_thinking(tmp_path) == ""
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert opened_thinking(tmp_path) == ""


@pytest.mark.parametrize(
    "template",
    [
        "{% generation %}<think>{% endgeneration %}",
        "{{ raise_exception('no') }}<think>",
        "{{ messages.append(1) }}<think>",
        "{{ 1 + 'a' }}<think>",
    ],
)
def test_a_template_that_plain_jinja_does_not_render_opens_nothing(
    tmp_path: Path, template: str
) -> None:
    (tmp_path / "chat_template.jinja").write_text(template)
    assert opened_thinking(tmp_path) == ""


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_file_that_cannot_be_read_names_its_folder(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer_config.json").write_bytes(content)
    with pytest.raises(ModelUnavailable, match=str(tmp_path)):
        opened_thinking(tmp_path)
