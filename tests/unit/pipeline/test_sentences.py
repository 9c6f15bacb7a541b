import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sentences import sentences


def cut(text: str) -> list[str]:
    return [text[s.start : s.end] for s in sentences(text)]


def test_chinese_sentences_end_at_their_marks_with_closing_quotes() -> None:
    assert cut("他说：“保修两年。”然后走了！真的吗？") == [
        "他说：“保修两年。”",
        "然后走了！",
        "真的吗？",
    ]


def test_english_sentences_do_not_end_at_abbreviations_numbers_and_names() -> None:
    text = "Dr. J. Smith paid 3.50 e.g. in cash. It was fine."
    assert cut(text) == ["Dr. J. Smith paid 3.50 e.g. in cash.", "It was fine."]


def test_file_names_and_versions_stay_whole() -> None:
    assert cut("Edit debian/rules.in for v3.9.3 now. Done.") == [
        "Edit debian/rules.in for v3.9.3 now.",
        "Done.",
    ]


def test_a_line_break_ends_a_sentence() -> None:
    assert cut("第一行\n第二行") == ["第一行", "第二行"]


def test_a_full_line_of_running_text_goes_on_in_the_next() -> None:
    mail = (
        "The exhibition opens on 13 June at 11:00 in the great hall of the\n"
        "harbour museum. We print 1,500 copies.\n"
        "Regards\nAnna"
    )
    assert cut(mail) == [
        "The exhibition opens on 13 June at 11:00 in the great hall of the\nharbour museum.",
        "We print 1,500 copies.",
        "Regards",
        "Anna",
    ]


def test_rows_of_a_table_and_verses_end_with_their_line() -> None:
    row = "some long name of an article in the list | 34.00 | 12 pieces in stock"
    assert cut(f"{row}\n{row}") == [row, row]
    assert cut("床前明月光，\n疑是地上霜。") == ["床前明月光，", "疑是地上霜。"]


@given(st.text(alphabet='保修。！? .\n"abc1', max_size=120))
@settings(deadline=None)
def test_spans_are_ordered_apart_trimmed_and_hold_every_visible_character(text: str) -> None:
    spans = sentences(text)
    assert all(a.end <= b.start for a, b in itertools.pairwise(spans))
    assert all(text[s.start : s.end] == text[s.start : s.end].strip() != "" for s in spans)
    held = "".join(text[s.start : s.end] for s in spans)
    assert "".join(held.split()) == "".join(text.split())
