import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.analyze import (
    coverage,
    idf,
    passage_script,
    phrase_form,
    saturate,
    script_of,
    shares,
    term_spans,
    terms,
)
from pipeline.types import Script
from pipeline.variants import SIMPLIFIED

TEXT = st.text(alphabet="保修期二十四个月 abcXYZ019._-/,。，\n", max_size=200)


def test_han_is_cut_into_pairs_and_a_lone_character_stands_for_itself() -> None:
    assert terms("保修期") == ["保修", "修期"]
    assert terms("道 a") == ["道"]


def test_joined_words_stand_whole_and_in_parts() -> None:
    assert terms("debian/control") == ["debian/control", "debian", "control"]
    assert terms("v3.9.3") == ["v3.9.3", "v3", "9", "3"]
    assert terms("C++ and c#") == ["c++", "c", "c#"]


def test_width_and_case_do_not_matter() -> None:
    assert terms("ＣＸ－２００") == terms("cx-200")


def test_traditional_and_simplified_forms_are_one() -> None:
    assert terms("電腦的保固範圍") == terms("电脑的保固范围")
    assert phrase_form("電腦，ＡＢＣ") == phrase_form("电脑 abc")
    assert [span for _, span in term_spans("電腦")] == [span for _, span in term_spans("电脑")]


@given(st.text(alphabet="".join(map(chr, SIMPLIFIED)), max_size=30))
def test_folding_keeps_the_number_of_characters_and_folds_once_for_all(text: str) -> None:
    folded = text.translate(SIMPLIFIED)
    assert len(folded) == len(text)
    assert folded.translate(SIMPLIFIED) == folded
    assert terms(folded) == terms(text)


def test_stop_words_say_nothing() -> None:
    assert terms("What is the warranty of it?") == ["warranti"]


@given(TEXT, TEXT)
@settings(deadline=None)
def test_terms_of_two_lines_are_the_terms_of_each(first: str, second: str) -> None:
    assert terms(f"{first}\n{second}") == terms(first) + terms(second)


def test_the_prevailing_script() -> None:
    assert script_of("使用 apt-get 安装") is Script.HAN
    assert script_of("The character 道 means way") is Script.LATIN
    assert script_of("123") is Script.LATIN


def test_a_passage_with_a_few_han_words_counts_as_han() -> None:
    command = "sudo apt-get install build-essential devscripts lintian " * 3
    assert passage_script(f"先运行 {command}，然后继续。") is Script.HAN
    assert passage_script(command) is Script.LATIN
    assert passage_script(f"{command * 20} 道") is Script.LATIN


def test_a_phrase_ignores_case_width_spaces_and_punctuation() -> None:
    assert phrase_form("保修期：24 个月。") == phrase_form("保修期24个月")


def test_forms_of_an_english_word_are_one_term() -> None:
    assert terms("prints printed printing") == ["print"] * 3
    assert terms("rope-stores") == ["rope-stores", "rope", "store"]
    assert terms("v3s naïves Straße") == ["v3s", "naïves", "strass"]


@given(st.text(max_size=60) | st.text("ab ﬁ①Ⅷ保修-.ー", max_size=30))
def test_a_terms_place_holds_the_letters_that_it_was_made_of(text: str) -> None:
    placed = term_spans(text)
    for term, place in placed:
        assert 0 <= place.start < place.end <= len(text)
        assert term in terms(text[place.start : place.end]) or not text.isascii()
    if text.isascii():
        assert [term for term, _ in placed] == terms(text)


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_idf_falls_with_document_frequency_and_is_never_negative(df: int, more: int) -> None:
    passages = df + more
    assert idf(df, passages) >= 0
    assert idf(df, passages) >= idf(df + 1, passages + 1) - 1e-12 or more == 0


@given(st.dictionaries(st.text(max_size=4), st.floats(0.01, 10), min_size=1, max_size=20))
def test_shares_sum_to_one(weights: dict[str, float]) -> None:
    assert np.isclose(sum(shares(weights).values()), 1.0)


@given(st.lists(st.sampled_from(["保修", "修期", "cx-200", "月"]), max_size=30))
def test_coverage_lies_between_zero_and_one_and_falls_when_terms_are_taken_away(
    found: list[str],
) -> None:
    weights = shares({"保修": 2.0, "cx-200": 1.0})
    whole = coverage(weights, found, 10.0)
    assert 0.0 <= whole < 1.0
    assert (
        coverage(weights, [t for t in found if t != "cx-200"], 10.0)
        <= coverage(weights, found, 10.0) + 0.4
    )
    assert (whole > 0) == bool({"保修", "cx-200"} & set(found))


def test_saturation_rises_with_frequency_and_falls_with_length() -> None:
    assert saturate(1, 10, 10) == 1 / 2.2
    assert saturate(2, 10, 10) > saturate(1, 10, 10) > saturate(1, 20, 10)
    assert saturate(0, 10, 10) == 0
