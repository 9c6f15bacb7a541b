from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.jobs.times import Daily, Every, next_time, parse_when, parse_zone
from pipeline.errors import InvalidInput

ZONES = [ZoneInfo(name) for name in ("UTC", "Asia/Shanghai", "Europe/Berlin", "America/St_Johns")]
NOW = st.floats(1_600_000_000, 2_000_000_000)
DAILY = st.builds(
    Daily,
    st.integers(0, 23),
    st.integers(0, 59),
    st.frozensets(st.integers(0, 6), min_size=1),
)


@settings(deadline=None)
@given(DAILY, st.sampled_from(ZONES), NOW)
def test_the_next_time_is_ahead_on_one_of_its_days_at_its_minute(
    when: Daily, zone: ZoneInfo, now: float
) -> None:
    due = next_time(when, zone, now)
    assert now < due <= now + 8 * 86_400 + 7_200
    local = datetime.fromtimestamp(due, zone)
    assert local.weekday() in when.days or (when.hour, local.hour) == (23, 0)
    minutes = local.hour * 60 + local.minute - when.hour * 60 - when.minute
    assert minutes in (0, 60)  # 60 where the clocks skip it


@settings(deadline=None)
@given(DAILY, st.sampled_from(ZONES), NOW, st.floats(1, 3 * 86_400))
def test_nothing_is_due_between_now_and_the_next_time(
    when: Daily, zone: ZoneInfo, now: float, later: float
) -> None:
    due = next_time(when, zone, now)
    between = min(now + later, due - 1)
    if between > now:
        assert next_time(when, zone, between) == due


@given(st.integers(1, 10_000), NOW)
def test_every_so_often_counts_from_the_last_time(seconds: int, now: float) -> None:
    assert next_time(Every(seconds), ZONES[0], now) == now + seconds


def test_three_in_the_morning_in_shanghai() -> None:
    now = datetime(2026, 11, 24, 18, 59, tzinfo=UTC).timestamp()
    due = next_time(parse_when("at 03:00"), parse_zone("Asia/Shanghai"), now)
    assert datetime.fromtimestamp(due, UTC) == datetime(2026, 11, 24, 19, tzinfo=UTC)
    on_friday = next_time(parse_when("At 3:00  on fri"), parse_zone("Asia/Shanghai"), now)
    assert datetime.fromtimestamp(on_friday, UTC) == datetime(2026, 11, 26, 19, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["", "every 0m", "every 5", "every -1h", "at 24:00", "at 3", "at 03:60", "at 03:00 on xyz"],
)
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"every 15m.*at 03:00"):
        parse_when(text)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../../etc/passwd", "/etc/localtime"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="time zone"):
        parse_zone(name)
