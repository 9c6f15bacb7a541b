"""Which rows of the segments are live: what a delete leaves, and where a key is.

A state is made from all keys, or from the state before it for what the change costs. It is never changed: a search
that began on it ends on it.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from indexer.segments.rows import Wanted
from indexer.segments.segment import Segment
from indexer.segments.staged import SCRIPTS
from pipeline.errors import DamagedIndex
from pipeline.types import Keys, Script

Sums = tuple[NDArray[np.float64], NDArray[np.int64]]


class LiveRows:
    """The live rows of several segments, whose keys together are `live` (sorted)."""

    def __init__(self, parts: Sequence["_Alive"], live: Keys) -> None:
        self._parts = tuple(parts)
        self.segments = tuple(part.segment for part in parts)
        self.live = live
        self.count = len(live)
        if sum(part.count for part in parts) != len(live):
            raise _damaged()

    @classmethod
    def of(cls, segments: Sequence[Segment], live: Keys) -> Self:
        """Look for each key. Raises DamagedIndex when a live key is in no segment, or in two."""
        parts = []
        seen = np.zeros(len(live), np.bool_)
        for segment in segments:
            places, mask = find(live, segment.keys)
            seen[places[mask]] = True
            parts.append(_Alive(segment, mask))
        if not seen.all():
            raise _damaged()
        return cls(parts, live)

    def after(self, segments: Sequence[Segment], live: Keys, died: Keys) -> Self:
        """The state of these segments with the keys `live`: those of this one without `died` (sorted), and after
        its last key such as are new.

        Segments that stay and lost nothing are not looked at again. Raises DamagedIndex as `of` does.
        """
        known = {id(part.segment): part for part in self._parts}
        parts, found = [], [_NO_KEYS]
        for segment in segments:
            part = known.pop(id(segment), None)
            if part is None:
                part = _Alive(segment, find(live, segment.keys)[1])
                found.append(part.keys())
            else:
                part = part.without(died)
            parts.append(part)
        new = live[np.searchsorted(live, self.live[-1], side="right") :] if self.count else live
        moved = [part.without(died).keys() for part in known.values()]
        if not np.array_equal(
            np.sort(np.concatenate(found)), np.sort(np.concatenate([new, *moved]))
        ):
            raise _damaged()
        return type(self)(parts, live)

    def all_of(self, script: Script | None) -> list[Wanted]:
        """The live rows a segment; of one script, where it is told. Made once each."""
        return [part.wanted(script) for part in self._parts]

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
        for i, part in enumerate(self._parts):
            within = _within(part.segment, ascending)
            found, there = find(part.segment.keys, ascending[within])
            there &= part.mask[found] if len(part.segment) else False
            mine = order[within][there]
            owners[mine], rows[mine] = i, found[there]
        if (owners < 0).any():
            raise KeyError(int(keys[owners < 0][0]))
        return owners, rows

    def sums(self) -> list[Sums]:
        """Of each segment the sums (scripts, dim) of its live rows' vectors, and their numbers (scripts,)."""
        return [part.sums() for part in self._parts]


class _Alive:
    """The live rows of one segment, True in `mask`; what follows from them is made when it is first asked for."""

    def __init__(self, segment: Segment, mask: NDArray[np.bool_]) -> None:
        self.segment = segment
        self.mask = mask
        self.count = int(np.count_nonzero(mask))
        self._wanted: dict[Script | None, Wanted] = {}
        self._sums: Sums | None = None

    def keys(self) -> Keys:
        return self.segment.keys[self.mask]

    def without(self, died: Keys) -> "_Alive":
        """The same without these keys (sorted), of which it needs to hold none."""
        rows, there = find(self.segment.keys, died[_within(self.segment, died)])
        rows = rows[there]
        rows = rows[self.mask[rows]]
        if not len(rows):
            return self
        mask = self.mask.copy()
        mask[rows] = False
        left = _Alive(self.segment, mask)
        if self._sums is not None:
            left._sums = _less(self._sums, _sums(self.segment, rows))
        return left

    def wanted(self, script: Script | None) -> Wanted:
        found = self._wanted.get(script)
        if found is None:
            mask = self.mask
            if script is not None:
                mask = mask & (self.segment.scripts == SCRIPTS.index(script))
            found = self._wanted[script] = Wanted.masked(mask)
        return found

    def sums(self) -> Sums:
        """From the smaller side, live or dead. float64 holds sums of float16 exactly, so each way tells the same."""
        if self._sums is None:
            dead = np.flatnonzero(~self.mask)
            if len(dead) <= self.count:
                whole = (self.segment.sums, self.segment.counts)
                self._sums = _less(whole, _sums(self.segment, dead))
            else:
                self._sums = _sums(self.segment, np.flatnonzero(self.mask))
        return self._sums


_NO_KEYS = np.zeros(0, np.int64)


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


def _sums(segment: Segment, rows: NDArray[np.int64]) -> Sums:
    sums = np.zeros_like(segment.sums)
    for code in range(len(SCRIPTS)):
        mine = rows[segment.scripts[rows] == code]
        for at in range(0, len(mine), 8192):
            sums[code] += segment.vectors[mine[at : at + 8192]].sum(axis=0, dtype=np.float64)
    counts = np.bincount(segment.scripts[rows], minlength=len(SCRIPTS))
    return sums, counts.astype(np.int64)


def _less(whole: Sums, part: Sums) -> Sums:
    return whole[0] - part[0], whole[1] - part[1]


def _damaged() -> DamagedIndex:
    return DamagedIndex(
        "the index does not hold every passage exactly once: restore it from a backup, or "
        "re-index the collection"
    )
