"""Which of the scored sentences become the answer."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.extract import (
    Evidence,
    asks_for_number,
    choose,
    has_number,
    page_of,
    quotable,
    refused,
)
from pipeline.types import LISTING, Chunk, Grid, Script, Span, TableRows

SENTENCES = [
    "Subject: notes of the exhibition.",
    "We agreed on the exhibition.",
    "The opening is on 13 June at 11:00.",
    "Ivo paints the wall.",
]
TEXT = " ".join(SENTENCES)
CHUNK = Chunk("c1", 1, "d1", "notes.eml", 1, TEXT, 0, len(TEXT), None, (), "", Script.LATIN)


def scored(*scores: float) -> list[Evidence]:
    places = [TEXT.index(sentence) for sentence in SENTENCES]
    spans = [Span(at, at + len(words)) for at, words in zip(places, SENTENCES, strict=True)]
    found = [Evidence(CHUNK, span, score) for span, score in zip(spans, scores, strict=False)]
    return sorted(found, key=lambda e: -e.score)


@pytest.mark.parametrize(
    "question",
    ["When does it open?", "How many copies?", "In what year?", "什么时候开幕？", "一共多少钱？", "有几天假？"],
)  # fmt: skip
def test_questions_for_a_number_are_known(question: str) -> None:
    assert asks_for_number(question)


@pytest.mark.parametrize(
    "question", ["Who opens it?", "Why is it closed?", "谁负责？", "几乎没有人吗？"]
)
def test_other_questions_are_not(question: str) -> None:
    assert not asks_for_number(question)


def test_a_sentence_with_a_number_comes_first_where_a_number_is_asked_for() -> None:
    evidence = scored(0.97, 0.968, 0.93, 0.85)
    asked = choose(evidence, 1, "When does the exhibition open?")
    assert [e.quote for e in asked] == [SENTENCES[2]]
    assert [e.quote for e in choose(evidence, 1, "Who leads it?")] == [SENTENCES[0]]


def test_a_number_does_not_make_a_bad_sentence_the_answer() -> None:
    chosen = choose(scored(0.97, 0.6, 0.7, 0.5), 2, "When does it open?")
    assert [e.quote for e in chosen] == [SENTENCES[0]]


@given(st.lists(st.floats(0, 1), max_size=4), st.integers(1, 3), st.booleans())
def test_the_choice_is_among_the_evidence_and_never_repeats(
    scores: list[float], most: int, number: bool
) -> None:
    evidence = scored(*scores)
    chosen = choose(evidence, most, "When?" if number else "Who?")
    assert len(chosen) == len({e.span for e in chosen}) <= most
    assert set(chosen) <= set(evidence)
    assert bool(chosen) == bool(evidence)
    if chosen and not number:
        assert evidence[0] in chosen


def test_refusal_looks_at_the_best_score_alone() -> None:
    assert refused([], "", None)
    assert not refused(scored(0.9, 0.2), "单价？", 0.88)
    assert refused(scored(0.87, 0.87, 0.87), "单价？", 0.88)


@given(st.integers(0, 10**6))
def test_digits_are_numbers(value: int) -> None:
    assert has_number(f"it costs {value} pounds")


def test_the_title_is_not_quoted_with_a_label_before_it_either() -> None:
    text = "Subject: Notes of 5 March\nFrom: Ruth\nThe opening is on 13 June."
    chunk = replace(CHUNK, text=text, end=len(text), context="Notes of 5 March")
    quoted = [text[span.start : span.end] for span in quotable(chunk)]
    assert quoted == ["From: Ruth", "The opening is on 13 June."]


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ({"notes": 1.0}, 3),
        ({"exhibit": 0.5, "agre": 0.5}, 3),
        ({"13": 0.6, "june": 0.4}, 4),
        ({"paint": 1.0}, 5),
        ({"壁画": 1.0}, 3),  # no word is shared: the page with most of the text
    ],
)
def test_a_hit_tells_the_page_of_its_best_sentence(query: dict[str, float], page: int) -> None:
    turns = ((TEXT.index("The opening"), 4), (TEXT.index("Ivo"), 5))
    assert page_of(replace(CHUNK, page=3, turns=turns), query) == page
    assert page_of(replace(CHUNK, page=3), query) == 3


def test_the_names_of_files_in_an_archive_are_not_quoted() -> None:
    names = "How to reset the router password.txt"
    listed = replace(CHUNK, text=names, end=len(names), heading=LISTING)
    assert quotable(listed) == []
    assert quotable(replace(listed, heading=())) != []


ROWS = "价目表。\n\n品名 | 单价\n螺栓 | 3 元。含税\n垫片 | 4 元"
GRID = Grid((1, 2, 3), (1, 2), ("品名", "单价"), header=1)
SHEET = replace(
    CHUNK, text=ROWS, end=len(ROWS), tables=(TableRows(6, len(ROWS), GRID),), script=Script.HAN
)


def test_a_row_is_quoted_whole_and_its_header_never() -> None:
    quotes = [SHEET.text[span.start : span.end] for span in quotable(SHEET)]
    assert quotes == ["价目表。", "螺栓 | 3 元。含税", "垫片 | 4 元"]


def test_of_a_row_of_prose_the_sentences_of_its_cells_are_quoted() -> None:
    long = "这一条款说明保修的范围。" * 40
    text = f"条 | 说明\n一 | {long}"
    chunk = replace(SHEET, text=text, end=len(text), tables=(TableRows(0, len(text), GRID),))
    quotes = [text[span.start : span.end] for span in quotable(chunk)]
    assert quotes[:2] == ["一", "这一条款说明保修的范围。"]
    assert len(quotes) == 41


def test_a_row_that_stands_out_among_its_neighbours_is_no_refusal() -> None:
    title, bolt, washer = quotable(SHEET)
    alike = [Evidence(SHEET, bolt, 0.85), Evidence(SHEET, washer, 0.84)]
    apart = [Evidence(SHEET, bolt, 0.85), Evidence(SHEET, washer, 0.80)]
    assert refused(alike, "单价？", 0.88)
    assert not refused(apart, "单价？", 0.88)
    far = [Evidence(SHEET, bolt, 0.80), Evidence(SHEET, washer, 0.20)]
    assert refused(far, "单价？", 0.88)
    assert refused([Evidence(SHEET, bolt, 0.85)], "单价？", 0.88)
    assert refused([Evidence(SHEET, title, 0.85), Evidence(SHEET, washer, 0.80)], "单价？", 0.88)
    other = replace(SHEET, document="d2")
    assert refused([Evidence(SHEET, bolt, 0.85), Evidence(other, washer, 0.80)], "单价？", 0.88)


def test_a_quote_of_a_row_ends_with_its_last_filled_cell() -> None:
    text = "a | b | c\n| 2 |\n1 | |"
    grid = Grid((1, 2, 3), (1, 2, 3), ("a", "b", "c"), header=1)
    chunk = replace(SHEET, text=text, end=len(text), tables=(TableRows(0, len(text), grid),))
    assert [text[s.start : s.end] for s in quotable(chunk)] == ["2", "1"]


def test_a_second_row_is_only_shown_when_it_answers_as_well() -> None:
    _, bolt, washer = quotable(SHEET)
    for second, shown in ((0.99, 2), (0.95, 1)):
        found = [Evidence(SHEET, bolt, 1.0), Evidence(SHEET, washer, second)]
        assert len(choose(found, 2, "螺栓的单价")) == shown


CODES = "代码 | 含义\nE07 | 与服务器断开\nE08 | 相机被遮挡\n红灯请看屏幕上的代码。"
CODE_GRID = Grid((1, 2, 3), (1, 2), ("代码", "含义"), header=1)
MANUAL = replace(
    SHEET,
    text=CODES,
    end=len(CODES),
    tables=(TableRows(0, CODES.index("\n红灯"), CODE_GRID),),
)


def test_a_row_that_the_question_names_is_no_refusal_and_stands_alone() -> None:
    seven, eight, light = quotable(MANUAL)
    found = [
        Evidence(MANUAL, light, 0.87),
        Evidence(MANUAL, eight, 0.86),
        Evidence(MANUAL, seven, 0.85),
    ]
    assert refused(found, "故障代码 E09 是什么意思？", 0.88)
    assert refused(found, "故障代码是什么意思？", 0.88)
    assert not refused(found, "故障代码 e08 是什么意思？", 0.88)
    assert [e.span for e in choose(found, 2, "故障代码 E08 是什么意思？")] == [eight]
    assert [e.span for e in choose(found, 2, "故障代码 E09 是什么意思？")] == [light]


def test_a_row_of_another_code_is_no_evidence_however_near_it_is() -> None:
    seven, eight, light = quotable(MANUAL)
    near = [Evidence(MANUAL, eight, 0.99), Evidence(MANUAL, seven, 0.98)]
    assert refused(near, "What does error E09 mean?", 0.88)
    assert not refused(near, "What does error E08 mean?", 0.88)
    assert not refused(near, "Which part of the CX-200 is covered?", 0.88)
    assert not refused([*near, Evidence(MANUAL, light, 0.9)], "Is there an E09?", 0.88)


def test_the_row_with_the_quantities_of_the_question_is_quoted() -> None:
    text = "工龄 | 年假\n满1年不满5年 | 10天\n满5年不满10年 | 12天"
    chunk = replace(SHEET, text=text, end=len(text), tables=(TableRows(0, len(text), CODE_GRID),))
    wrong, right = quotable(chunk)
    found = [Evidence(chunk, wrong, 0.94), Evidence(chunk, right, 0.935)]
    assert [e.span for e in choose(found, 2, "工作满五年不满十年，年假有多少天？")] == [right]
    assert [e.span for e in choose(found, 2, "年假有多少天？")] == [wrong, right]
