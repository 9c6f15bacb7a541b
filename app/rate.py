"""How fast a count grows, and how long the rest takes: measured over the last minute, never guessed."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

_WINDOW_S = 60.0


@dataclass(slots=True)
class Rate:
    """How fast a count grows, over the last minute. It starts anew when the count falls."""

    clock: Callable[[], float] = time.monotonic
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def of(self, done: int) -> float | None:
        """Units a second; None while too little was seen to say so."""
        now = self.clock()
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now - _WINDOW_S:
            self._seen.popleft()
        begun, first = self._seen[0]
        return (done - first) / (now - begun) if now - begun >= 1 and done > first else None


def pace(unit: str, per_second: float | None, seconds_left: float | None) -> str:
    """Speed and time left in words, as far as they are known: `3.2 files/s · about 1 min left`.

    Without a unit it is `3.2/s`.
    """
    of = f" {unit}" if unit else ""
    speed = left = ""
    if per_second is not None:
        slow = per_second < 0.1
        speed = f"{per_second * 60:.1f}{of}/min" if slow else f"{per_second:.1f}{of}/s"
    if seconds_left is not None:
        left = f"about {span(seconds_left)} left"
    return " · ".join(part for part in (speed, left) if part)


def span(seconds: float) -> str:
    """A length of time in the unit that reads best: `20 s`, `5 min`, `3 h`."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{round(seconds / 3600)} h"
