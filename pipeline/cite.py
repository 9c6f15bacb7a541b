"""Citations: the exact words of a stored text behind a marker."""

import re
from collections.abc import Sequence

from pipeline.rows import cited
from pipeline.sentences import sentences
from pipeline.types import Chunk, Citation, Span

_MARKERS = re.compile(r"\s*[\[【]\s*(\d{1,4}(?:\s*[,，、]\s*\d{1,4})*)\s*[\]】]")


def cite(marker: int, chunk: Chunk, span: Span) -> Citation:
    """The citation of `chunk.text[span]`; offsets become those of the stored text."""
    table, cells = cited(chunk.text, chunk.tables, span.start, span.end)
    return Citation(
        marker=marker,
        document=chunk.document,
        name=chunk.name,
        version=chunk.version,
        chunk=chunk.id,
        quote=chunk.text[span.start : span.end],
        start=chunk.start + span.start,
        end=chunk.start + span.end,
        page=chunk.page,
        heading=chunk.heading,
        table=table,
        cells=cells,
    )


def claims(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """The sentences of a written answer with the passage numbers that each one names.

    A marker behind the full stop belongs to the sentence before it.

    >>> claims("保修期24个月[1]。 It is free.[2][3]")
    [('保修期24个月。', (1,)), ('It is free.', (2, 3))]
    """
    moved = re.sub(r"([。！？!?.]+)((?:" + _MARKERS.pattern + r")+)", _inside, text)
    found: list[tuple[str, tuple[int, ...]]] = []
    for span in sentences(moved):
        piece = moved[span.start : span.end]
        numbers = [int(n) for group in _MARKERS.findall(piece) for n in re.findall(r"\d+", group)]
        words = _MARKERS.sub("", piece).strip()
        if words.strip("-*• 。.!?！？"):
            found.append((words, tuple(dict.fromkeys(numbers))))
        elif found and numbers:
            last, named = found[-1]
            found[-1] = (last, tuple(dict.fromkeys((*named, *numbers))))
    return found


def _inside(match: re.Match[str]) -> str:
    return f"{match[2]}{match[1]}"


def named(numbers: Sequence[int], chunks: Sequence[Chunk]) -> list[Chunk]:
    """The chunks behind passage numbers counted from 1; numbers of no passage are left out."""
    return [chunks[n - 1] for n in numbers if 1 <= n <= len(chunks)]
