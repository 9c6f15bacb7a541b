"""When a schedule is due next: every so often, or at a time of day in a zone. Arithmetic only."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from pipeline.errors import InvalidInput

_UNITS = {"m": 60, "h": 3600, "d": 86_400}
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_EVERY = re.compile(r"every (\d{1,5})([mhd])")
_AT = re.compile(r"at (\d{1,2}):(\d{2})(?: on ([a-z]{3}(?:,[a-z]{3})*))?")


@dataclass(frozen=True, slots=True)
class Every:
    """So many seconds after the last time."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Daily:
    """At a time of day, on some days of the week (0 is Monday)."""

    hour: int
    minute: int
    days: frozenset[int]


When = Every | Daily


def parse_when(text: str) -> When:
    """`every 15m`, `every 6h`, `every 1d`, `at 03:00`, `at 22:30 on mon,fri`. Raises InvalidInput.

    >>> parse_when("every 15m"), parse_when("at 03:00 on sat")
    (Every(seconds=900), Daily(hour=3, minute=0, days=frozenset({5})))
    """
    words = " ".join(text.lower().split())
    if (found := _EVERY.fullmatch(words)) and int(found[1]):
        return Every(int(found[1]) * _UNITS[found[2]])
    found = _AT.fullmatch(words)
    if found and int(found[1]) < 24 and int(found[2]) < 60:
        named = found[3].split(",") if found[3] else list(_DAYS)
        if set(named) <= set(_DAYS):
            days = frozenset(_DAYS.index(day) for day in named)
            return Daily(int(found[1]), int(found[2]), days)
    raise InvalidInput(
        f'"{text}" is no time: write "every 15m", "every 6h", "every 1d", "at 03:00" or "at 03:00 on mon,fri"'
    )


def parse_zone(name: str) -> ZoneInfo:
    """A zone such as Asia/Shanghai. Raises InvalidInput."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidInput(
            f'there is no time zone "{name}": use a name such as Asia/Shanghai or UTC'
        ) from error


def next_time(when: When, zone: ZoneInfo, now: float) -> float:
    """The first moment after `now` (seconds since 1970) that is due.

    A time that a clock change skips is an hour later that day; one that comes twice counts once, the first time.
    However long nobody looked, one run makes up for all that were missed.
    """
    match when:
        case Every(seconds=seconds):
            return now + seconds
        case Daily(hour=hour, minute=minute, days=days):
            today = datetime.fromtimestamp(now, zone).date()
            for ahead in range(9):
                day = today + timedelta(days=ahead)
                if day.weekday() in days:
                    at = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
                    if at.timestamp() > now:
                        return at.timestamp()
    raise AssertionError("a week has every day")
