"""Which hits fit into a prompt."""

from collections.abc import Callable, Sequence

from pipeline.rows import prompted
from pipeline.types import Chunk


def pack(chunks: Sequence[Chunk], budget: int, count: Callable[[str], int]) -> list[Chunk]:
    """The longest run of chunks, best first, whose texts and contexts take at most `budget` tokens together."""
    packed: list[Chunk] = []
    for chunk in chunks:
        budget -= cost(chunk, count)
        if budget < 0:
            break
        packed.append(chunk)
    return packed


def cost(chunk: Chunk, count: Callable[[str], int]) -> int:
    """Tokens that a chunk takes as a numbered passage; 8 are for its number and line breaks."""
    shown = prompted(chunk)
    return count(shown.context) + count(shown.text) + 8
