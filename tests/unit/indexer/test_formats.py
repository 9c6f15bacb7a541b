import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.parse.formats import date_text, number_text

AT = datetime.datetime.fromisoformat
ACCOUNTING = '_ ¥* #,##0.00_ ;_ ¥* -#,##0.00_ ;_ ¥* "-"??_ ;_ @_ '


@pytest.mark.parametrize(
    ("value", "code", "shown"),
    [
        (1200, '"¥"#,##0.00', "¥1,200.00"),
        (1200, "[$¥-804]#,##0.00", "¥1,200.00"),
        (1234.567, '#,##0.00 "元"', "1,234.57 元"),
        (1200, ACCOUNTING, "¥1,200.00"),
        (-1200, ACCOUNTING, "¥-1,200.00"),
        (0, ACCOUNTING, "¥-"),
        (-1234, "$#,##0.00;($#,##0.00)", "($1,234.00)"),
        (-1234, "$#,##0.00;[Red]-$#,##0.00", "-$1,234.00"),
        (0.125, "0.0%", "12.5%"),
        (0.29, "0%", "29%"),
        (0.12, "0.0 %", "12.0 %"),
        (12_000_000, '0.0,,"M"', "12.0M"),
        (7, "000", "007"),
        (3, "0.##", "3"),
        (3.14159, "0.##", "3.14"),
        (2.5, "0", "3"),
        (12, '0"件"', "12件"),
        (0.1, "General", "0.1"),
        (6.0, "", "6"),
        (5, "@", "5"),
        (5_551_234, "000-0000", "5551234"),
        (0.5, "# ?/?", "0.5"),
        (1234, "0.00E+00", "1234"),
        (12, "[<100]0;0", "12"),
        (0, "#", "0"),
        (1e300, "0.00", "1e+300"),
    ],
)
def test_a_number_reads_as_its_cell_shows_it(value: float, code: str, shown: str) -> None:
    assert number_text(value, code) == shown


@settings(deadline=None)
@given(st.floats(), st.text('0#?,.%;"\\_*[]$¥-ymdhsE/ @<x', max_size=30))
def test_no_format_breaks_a_cell(value: float, code: str) -> None:
    assert number_text(value, code)
    assert date_text(AT("2026-11-24 09:05"), code)


@settings(deadline=None)
@given(st.integers(-(10**9), 10**9), st.integers(0, 4))
def test_what_is_shown_with_groups_is_the_number(value: int, places: int) -> None:
    shown = number_text(value, "#,##0" + ("." + "0" * places if places else ""))
    assert float(shown.replace(",", "")) == value


@pytest.mark.parametrize(
    ("moment", "code", "shown"),
    [
        (datetime.date(2026, 11, 24), "mm-dd-yy", "2026-11-24"),
        (AT("2026-11-24"), "yyyy/m/d", "2026-11-24"),
        (AT("2026-01-04 09:05"), "m/d/yy h:mm", "2026-01-04 09:05:00"),
        (datetime.date(2026, 1, 4), 'yyyy"年"m"月"d"日"', "2026年1月4日"),
        (datetime.date(2026, 1, 4), '[$-804]yyyy"年"m"月"d"日"dddd;@', "2026年1月4日星期日"),
        (
            AT("2026-01-04 09:05"),
            'yyyy"年"mm"月"dd"日" h"时"mm"分"',
            "2026年01月04日 9时05分",
        ),
    ],
)
def test_a_date_is_iso_or_as_it_is_shown_in_chinese(
    moment: datetime.date, code: str, shown: str
) -> None:
    assert date_text(moment, code) == shown
