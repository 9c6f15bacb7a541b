"""Identifiers and quantities, however they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.mentions import identifiers, quantities

DIGITS = "零一二三四五六七八九"


def spoken(value: int) -> str:
    """A number under 10,000 as it is written in Chinese, every place named."""
    places = [(1000, "千"), (100, "百"), (10, "十"), (1, "")]
    text, gap = "", False
    for size, name in places:
        digit = value // size % 10
        if digit:
            text += ("零" if gap and text else "") + DIGITS[digit] + name
        gap = not digit
    return text


@given(st.integers(1, 9999))
def test_chinese_numerals_are_the_numbers_that_they_say(value: int) -> None:
    assert quantities(f"满{spoken(value)}天") == quantities(f"满{value}天") == {(str(value), "天")}


@given(st.integers(1900, 2099))
def test_years_are_written_digit_by_digit_too(year: int) -> None:
    written = "".join(DIGITS[int(digit)] for digit in str(year))
    assert quantities(f"{written}年") == {(str(year), "年")}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("within two weeks", "2 weeks"),
        ("a 10-year lease", "10 years"),
        ("十年以上", "10 年以上"),
        ("１２个", "十二个"),
        ("1,500 m", "1500 m"),
    ],
)
def test_the_same_quantity_is_found_however_it_is_written(one: str, other: str) -> None:
    assert quantities(one) & quantities(other)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("故障代码E08的含义", {"e08"}),
        ("ＣＸ－２００ or cx-200", {"cx-200"}),
        ("order 20260113, page 12, in 2013", {"20260113"}),
        ("SN: AB12-CD34.", {"ab12-cd34"}),
        ("no code at all, A/B, 3.5", set()),
    ],
)
def test_identifiers_have_letters_and_digits_or_are_long_numbers(
    text: str, found: set[str]
) -> None:
    assert identifiers(text) == found
