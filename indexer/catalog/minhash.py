"""How alike two texts are: MinHash over character shingles, without reading the other text.

Broder (1997): the share of equal places in two signatures estimates the Jaccard similarity of the sets of shingles.
"""

import unicodedata
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

PLACES = 128
BANDS = 16
SHINGLE = 8
"""Characters, white space left out: a word and a half of English, a clause of Chinese."""
_BLOCK = 1 << 14

Signature = NDArray[np.uint32]
"""Shape (PLACES,)."""


def signature(text: str, breathe: Callable[[], None] = lambda: None) -> Signature | None:
    """The signature of a text; None where it is too short to say anything.

    Case, width (NFKC) and white space make no difference. `breathe` runs many times a second and may raise.
    """
    letters = "".join(unicodedata.normalize("NFKC", text).casefold().split())
    points = np.frombuffer(letters.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    count = len(points) - SHINGLE + 1
    if count < SHINGLE:
        return None
    hashes = np.zeros(count, np.uint64)
    for at in range(SHINGLE):
        hashes = hashes * _PRIME + points[at : at + count]
    hashes = np.unique(_mixed(hashes))
    least = np.full(PLACES, np.iinfo(np.uint64).max, np.uint64)
    for start, end in pairwise([*range(0, len(hashes), _BLOCK), len(hashes)]):
        breathe()
        block = hashes[start:end, None] * _FACTORS[None, :] + _ADDENDS[None, :]
        least = np.minimum(least, block.min(axis=0))
    return (least >> np.uint64(32)).astype(np.uint32)


def similarity(one: Signature, other: Signature) -> float:
    """The estimated Jaccard similarity, 0 to 1; its standard error is at most 0.045."""
    return float((one == other).mean())


def bands(signed: Signature) -> list[int]:
    """One int64 a band of eight places. Two texts whose similarity is s share at least one with the
    chance 1 - (1 - s^8)^16: .95 for .8, .9995 for .9, .06 for .5.
    """
    rows = signed.reshape(BANDS, -1).astype(np.uint64)
    hashes = np.arange(1, BANDS + 1, dtype=np.uint64)
    for at in range(rows.shape[1]):
        hashes = _mixed(hashes * _PRIME + rows[:, at])
    return hashes.view(np.int64).tolist()


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea and Flood, 2014): every bit hangs on every bit."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = hashes ^ (hashes >> np.uint64(31))
    return mixed


_PRIME = np.uint64(0x100000001B3)
_FACTORS = _mixed(np.arange(1, PLACES + 1, dtype=np.uint64)) | np.uint64(1)
_ADDENDS = _mixed(np.arange(PLACES + 1, 2 * PLACES + 1, dtype=np.uint64))
