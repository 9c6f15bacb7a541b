from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.reasoning import AnswerOnly

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
