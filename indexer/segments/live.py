"""Which rows of the segments are live: what a delete leaves, and where a key is."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.segments.rows import Wanted
from indexer.segments.segment import Segment
from indexer.segments.staged import SCRIPTS
from pipeline.errors import DamagedIndex
from pipeline.types import Keys, Script


class LiveRows:
    """The live rows of several segments; `live` is sorted.

    Raises DamagedIndex when a live key is in no segment, or in two.
    """

    def __init__(self, segments: Sequence[Segment], live: Keys) -> None:
        self.segments = tuple(segments)
        self._alive: list[NDArray[np.bool_]] = []
        self._wanted: list[dict[Script | None, Wanted]] = [{} for _ in segments]
        seen = np.zeros(len(live), np.bool_)
        for segment in segments:
            places, alive = find(live, segment.keys)
            seen[places[alive]] = True
            self._alive.append(alive)
        self.count = len(live)
        if sum(int(alive.sum()) for alive in self._alive) != len(live) or not seen.all():
            raise DamagedIndex(
                "the index does not hold every passage exactly once: restore it from a backup, or "
                "re-index the collection"
            )

    def all_of(self, script: Script | None) -> list[Wanted]:
        """The live rows a segment; of one script, where it is told. Made once each."""
        for i, (segment, alive) in enumerate(zip(self.segments, self._alive, strict=True)):
            if script not in self._wanted[i]:
                mask = alive
                if script is not None:
                    mask = alive & (segment.scripts == SCRIPTS.index(script))
                self._wanted[i][script] = Wanted.masked(mask)
        return [wanted[script] for wanted in self._wanted]

    def among(self, allowed: Keys, script: Script | None) -> list[Wanted]:
        """The live rows a segment whose keys are in `allowed` (sorted); others are passed over."""
        found = []
        for segment, wanted in zip(self.segments, self.all_of(script), strict=True):
            rows, there = _rows(segment, allowed)
            mask = np.zeros(len(segment), np.bool_)
            mask[rows[there]] = True
            if wanted.mask is not None:
                mask &= wanted.mask
            found.append(Wanted.masked(mask))
        return found

    def where(self, keys: Keys) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The place of each key's segment (n,) and its row there (n,). Raises KeyError for a key that
        is not live.
        """
        keys = np.asarray(keys, np.int64)
        order = np.argsort(keys, kind="stable")
        ascending = keys[order]
        owners, rows = np.full(len(keys), -1, np.int64), np.zeros(len(keys), np.int64)
        for i, segment in enumerate(self.segments):
            within = _within(segment, ascending)
            found, there = find(segment.keys, ascending[within])
            there &= self._alive[i][found] if len(segment) else False
            mine = order[within][there]
            owners[mine], rows[mine] = i, found[there]
        if (owners < 0).any():
            raise KeyError(int(keys[owners < 0][0]))
        return owners, rows

    def dead_and_live(self, i: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The dead rows of a segment and its live ones, both ascending."""
        return np.flatnonzero(~self._alive[i]), np.flatnonzero(self._alive[i])


def find(among: Keys, keys: Keys) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Places of keys in the sorted `among`, and which of them are really there."""
    if not len(among):
        return np.zeros(len(keys), np.int64), np.zeros(len(keys), np.bool_)
    places = np.minimum(np.searchsorted(among, keys), len(among) - 1)
    return places, among[places] == keys


def _rows(segment: Segment, allowed: Keys) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    inside = allowed[_within(segment, allowed)]
    keys = segment.keys
    if len(keys) and keys[-1] - keys[0] == len(keys) - 1:  # no gaps: nothing to look up
        return inside - keys[0], np.ones(len(inside), np.bool_)
    return find(keys, inside)


def _within(segment: Segment, ascending: Keys) -> slice:
    """The part of sorted keys that may be in the segment."""
    if not len(segment):
        return slice(0, 0)
    low, high = np.searchsorted(ascending, [segment.keys[0], segment.keys[-1] + 1])
    return slice(int(low), int(high))
