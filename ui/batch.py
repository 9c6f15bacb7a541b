"""How far the waiting files of a collection are: since when they are counted, and how fast they are read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

_OPEN = ("queued", "running")
_FAILED = ("failed", "dead")
_WINDOW_S = 60.0
_RECENT_S = 10.0


@dataclass(frozen=True, slots=True)
class Batch:
    """The numbers of jobs by status at looks at one collection; `before` has ended before anything was seen open.

    `looks` are moments of the last minute and how many jobs had ended by then.
    """

    collection: str
    counts: Mapping[str, int]
    before: Mapping[str, int]
    looks: tuple[tuple[float, int], ...]

    @property
    def open(self) -> int:
        """Files that wait or are read."""
        return sum(self.counts.get(status, 0) for status in _OPEN)

    @property
    def read(self) -> int:
        """Files of this batch that can be found."""
        return self._since("done")

    @property
    def ended(self) -> int:
        """Files of this batch that are read, failed or stopped."""
        return self._since("done", "failed", "dead", "cancelled")

    @property
    def total(self) -> int:
        """All files of this batch."""
        return self.ended + self.open

    @property
    def failed(self) -> int:
        """All files of the collection that could not be read, of this batch and before."""
        return sum(self.counts.get(status, 0) for status in _FAILED)

    @property
    def per_second(self) -> float | None:
        """Files a second over the last minute; None while too little was seen to say so."""
        (begun, first), (now, last) = self.looks[0], self.looks[-1]
        return (last - first) / (now - begun) if now - begun >= 1 and last > first else None

    @property
    def seconds_left(self) -> float | None:
        """How long the open ones take at this speed."""
        speed = self.per_second
        return self.open / speed if speed else None

    @classmethod
    def seen(
        cls, so_far: Self | None, collection: str, counts: Mapping[str, int], now: float
    ) -> Self:
        """What is known after another look. What was seen idle a while ago, or elsewhere, begins anew."""
        known = so_far if so_far is not None and so_far.collection == collection else None
        ended = _ended(counts)
        if known is None or (not known.open and now - known.looks[-1][0] > _RECENT_S):
            return cls(collection, counts, ended, ((now, sum(ended.values())),))
        if not known.open:
            known = cls(collection, known.counts, _ended(known.counts), known.looks[-1:])
        # Jobs that are retried or deleted are ended no longer.
        before = {status: min(n, ended.get(status, 0)) for status, n in known.before.items()}
        looks = [*known.looks, (now, sum(ended.values()))]
        while len(looks) > 2 and looks[1][0] <= now - _WINDOW_S:
            looks.pop(0)
        if looks[-1][1] < looks[-2][1]:
            looks = looks[-1:]
        return cls(collection, counts, before, tuple(looks))

    def _since(self, *statuses: str) -> int:
        return sum(self.counts.get(s, 0) - self.before.get(s, 0) for s in statuses)


def _ended(counts: Mapping[str, int]) -> dict[str, int]:
    return {status: n for status, n in counts.items() if status not in _OPEN}
