"""How speed and time left are written. What is measured stands in test_progress."""

import pytest

from app.rate import pace, span


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (5399, "90 min"),
        (5400, "2 h"),
        (90_000, "25 h"),
    ],
)
def test_a_length_of_time_is_written_in_the_unit_that_reads_best(seconds, words) -> None:
    assert span(seconds) == words


@pytest.mark.parametrize(
    ("unit", "speed", "left", "words"),
    [
        ("files", 3.21, 70, "3.2 files/s · about 1 min left"),
        ("files", 0.05, 20, "3.0 files/min · about 20 s left"),
        ("", 12, None, "12.0/s"),
        ("jobs", None, None, ""),
    ],
)
def test_only_what_was_measured_is_said(unit, speed, left, words) -> None:
    assert pace(unit, speed, left) == words
