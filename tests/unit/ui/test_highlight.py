"""Windows and marks: exact in code points, whatever the text."""

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ui.highlight import CONTEXT, excerpt, marked, merged, window, word_spans

TEXT = st.text(alphabet="年假a😀b。.\n &<é𠮷", min_size=1, max_size=60)


@given(text=TEXT, data=st.data(), context=st.integers(0, 20))
@hypothesis_settings(deadline=None)
def test_the_window_is_a_piece_of_the_text_around_exactly_the_quote(text, data, context) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    shown = window(text, start, end, context)
    assert shown is not None
    assert shown.quote == text[start:end]
    assert text[:start].endswith(shown.before)
    assert text[end:].startswith(shown.after)
    assert shown.cut_before == (len(shown.before) < start)
    assert shown.cut_after == (len(shown.after) < len(text) - end)
    assert max(len(shown.before), len(shown.after)) <= context


def test_emoji_count_as_one_code_point() -> None:
    text = "😀😀年假😀"
    shown = window(text, 2, 4)
    assert shown is not None
    assert (shown.before, shown.quote, shown.after) == ("😀😀", "年假", "😀")


def test_a_cut_window_begins_after_a_sentence_where_one_ends_nearby() -> None:
    text = "甲" * 500 + "。" + "乙" * 250 + "引文" + "丙" * 280 + "。" + "丁" * 500
    shown = window(text, 751, 753)
    assert shown is not None
    assert shown.before == "乙" * 250
    assert shown.after == "丙" * 280 + "。"


def test_a_place_outside_the_text_shows_nothing() -> None:
    assert window("abc", 1, 9) is None
    assert window("abc", -1, 2) is None
    assert window("abc", 2, 2) is None


def test_about_six_hundred_code_points_are_shown_around_a_quote() -> None:
    shown = window("字" * 5000, 2000, 2010)
    assert shown is not None
    assert len(shown.before) == len(shown.after) == CONTEXT


@given(query=TEXT, text=TEXT)
@hypothesis_settings(deadline=None)
def test_marks_are_sorted_disjoint_and_lose_nothing(query: str, text: str) -> None:
    spans = word_spans(query, text)
    assert spans == merged(spans)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert "".join(piece for piece, _ in marked(text, spans)) == text


def found(query: str, text: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(query, text)]


def test_chinese_is_marked_by_pairs_that_run_together() -> None:
    assert found("年假怎么申请", "申请年假须提前三天") == ["申请年假"]


def test_words_of_every_question_are_not_marked() -> None:
    assert found("什么是年假的申请", "什么是年假") == ["年假"]
    assert found("what is the filter", "The filter is what it is") == ["filter"]


def test_latin_words_match_whole_and_in_any_case() -> None:
    assert found("filter 3.9.3 re", "Filter, filters; 3.9.3 RE-use") == ["Filter", "3.9.3", "RE"]


def test_latin_words_beside_chinese_are_found() -> None:
    assert found("CX-200续航", "这台CX-200的续航时间") == ["CX-200", "续航"]


def test_a_query_is_text_and_not_a_pattern() -> None:
    assert found("a.c (x", "abc a.c") == ["a.c"]
    assert found("😀", "😀") == []


@given(text=TEXT, query=TEXT, length=st.integers(8, 40))
@hypothesis_settings(deadline=None)
def test_an_excerpt_is_short_and_holds_the_whole_of_a_short_text(
    text: str, query: str, length: int
) -> None:
    spans = word_spans(query, text)
    start, end = excerpt(text, spans, length)
    assert 0 <= start < end <= len(text)
    assert end - start <= length
    assert (start, end) == (0, len(text)) or len(text) > length


def test_an_excerpt_goes_where_the_most_marks_are() -> None:
    text = "filter " + "x" * 400 + ". The filter of the pump: a filter for oil. " + "y" * 400
    start, end = excerpt(text, word_spans("filter pump oil", text), 120)
    assert "filter of the pump: a filter for oil" in text[start:end]


def test_an_excerpt_does_not_end_inside_a_number() -> None:
    text = "filter. " + "x" * 60 + " rated 7.0 to 8.9 and more" + "y" * 400
    start, end = excerpt(text, word_spans("filter", text), 85)
    assert not text[start:end].endswith("8.")
