"""Text of a page that is only a picture, by the PP-OCR models that ship inside rapidocr."""

import os
import threading
from statistics import median
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from indexer.parse.lines import Line

Pixels = NDArray[np.uint8]
"""Shape (height, width) or (height, width, 3)."""


class Recognizer(Protocol):
    """Reads the lines of a picture; `scale` is pixels a point, results are in points."""

    def read(self, pixels: Pixels, scale: float) -> list[Line]: ...


class RapidRecognizer:
    """Chinese and English. The engine (about 1.5 s, 600 MB at work) is loaded by the first picture
    and then kept; one picture is read at a time.
    """

    def __init__(self, *, threads: int = 1, least_score: float = 0.5) -> None:
        self._threads = threads
        self._least_score = least_score
        self._lock = threading.Lock()
        self._engine: Any = None  # rapidocr ships no types

    def read(self, pixels: Pixels, scale: float) -> list[Line]:
        with self._lock:
            if self._engine is None:
                self._engine = _load(self._threads)
            found = self._engine(pixels)
        if found.boxes is None or found.txts is None:
            return []
        read = [
            (text, np.asarray(box, dtype=float) / scale)
            for text, box, score in zip(found.txts, found.boxes, found.scores, strict=True)
            if text.strip() and score >= self._least_score
        ]
        return rows([_line(text, box) for text, box in read])


def rows(lines: list[Line]) -> list[Line]:
    """Lines from top to bottom, those of one row from left to right, all of the usual height.

    The heights of boxes differ with the letters in them, so they say nothing of headings.
    """
    if not lines:
        return []
    size = median(line.size for line in lines)
    ordered = sorted(lines, key=lambda line: line.base)
    groups: list[list[Line]] = []
    for line in ordered:
        if groups and line.base - groups[-1][0].base < 0.6 * size:
            groups[-1].append(line)
        else:
            groups.append([line])
    return [
        Line(line.text, line.x0, line.y0, line.x1, line.y1, max(each.base for each in group), size)
        for group in groups
        for line in sorted(group, key=lambda line: line.x0)
    ]


def _line(text: str, box: NDArray[np.float64]) -> Line:
    (x0, y0), (x1, y1) = box.min(axis=0).tolist(), box.max(axis=0).tolist()
    height = y1 - y0
    return Line(text, x0, y0, x1, y1, base=y1 - 0.2 * height, size=height * 0.8)


def _load(threads: int) -> Any:  # noqa: ANN401 - rapidocr ships no types
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when onnxruntime is imported
    from rapidocr import RapidOCR

    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            # A batch pads its lines to the longest one: slower, larger, and spaces between words get lost.
            "Rec.rec_batch_num": 1,
        }
    )
