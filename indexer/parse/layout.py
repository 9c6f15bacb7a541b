"""The optional engine `layout`: what `unstructured`'s hi_res model sees on a page orders and names its lines.

The model looks at a picture of the page and gives regions: titles, text, running headers. The lines themselves come
from pdfium or OCR as in the default engine, so that no text, space or box depends on the model.
"""

import io
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from indexer.parse.lines import Line, Sheet
from indexer.parse.offline import go_offline
from indexer.parse.titles import Heading, level_by_size
from pipeline.errors import ModelUnavailable
from pipeline.types import ElementKind

_NAME = "zhinao_layout"
_DPI = 150
_KINDS = {
    "Title": ElementKind.HEADING,
    "Header": ElementKind.FURNITURE,
    "Footer": ElementKind.FURNITURE,
    "PageNumber": ElementKind.FURNITURE,
}
_MOST_LINES = 4
"""Of a heading."""


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a page that is read as one; its sides are fractions of the page from its top left."""

    kind: ElementKind
    x0: float
    y0: float
    x1: float
    y1: float

    def holds(self, line: Line, sheet: Sheet) -> bool:
        """Whether the middle of a line lies in it."""
        x, y = (line.x0 + line.x1) / 2 / sheet.width, (line.y0 + line.y1) / 2 / sheet.height
        return self.x0 <= x <= self.x1 and self.y0 <= y <= self.y1


Regions = Mapping[int, Sequence[Region]]
"""The regions of each page (counted from 1) in reading order; a page that is not there has none."""


class LayoutModel(Protocol):
    """Finds the regions of a PDF's pages."""

    def regions(self, data: bytes) -> Regions: ...


class HiResLayout:
    """`unstructured`'s hi_res strategy with a YOLOX model of document layouts from a local file."""

    def __init__(self, model: Path) -> None:
        self._model = model

    @classmethod
    def load(cls, model: Path | None) -> "HiResLayout":
        """Raises ModelUnavailable, with what to do, without the file, without the extra `layout`, and where the file
        does not load."""
        if model is None or not model.is_file():
            where = (
                f"there is no file {model}" if model else "ZHINAO_PARSER__LAYOUT_MODEL is not set"
            )
            raise ModelUnavailable(
                f"the parser engine “layout” has no model: {where}. Download yolox_l0.05.onnx of unstructuredio/"
                "yolo_x_layout and set ZHINAO_PARSER__LAYOUT_MODEL to its path, or leave ZHINAO_PARSER__ENGINE out"
            )
        try:
            from onnxruntime.capi import onnxruntime_pybind11_state as problems
            from unstructured_inference.models import base, yolox  # type: ignore[import-not-found]  # an extra
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("unstructured_inference"):
                raise
            raise ModelUnavailable(
                "the parser engine “layout” needs the extra: pip install .[layout]"
            ) from error
        given = {"model_path": str(model), "label_map": dict(yolox.YOLOX_LABEL_MAP)}
        base.register_new_model({_NAME: given}, yolox.UnstructuredYoloXModel)
        try:
            base.get_model(_NAME)
        except (
            problems.Fail,
            problems.InvalidArgument,
            problems.InvalidGraph,
            problems.InvalidProtobuf,
            problems.NoSuchFile,
            problems.RuntimeException,
        ) as error:
            raise ModelUnavailable(
                f"the layout model {model} does not load: it is no ONNX file of YOLOX, or damaged"
            ) from error
        return cls(model)

    def regions(self, data: bytes) -> Regions:
        """What the model sees, page by page, in the order that unstructured sorts it in."""
        go_offline()
        from unstructured.partition.pdf import partition_pdf

        # Text comes from elsewhere: `_Silent` keeps unstructured from asking for tesseract.
        parts = partition_pdf(
            file=io.BytesIO(data),
            strategy="hi_res",
            languages=["eng"],
            hi_res_model_name=_NAME,
            ocr_mode="individual_blocks",
            ocr_agent=_silent(),
            pdf_image_dpi=_DPI,
        )
        found: dict[int, list[Region]] = {}
        for part in parts:
            if part.metadata.coordinates is not None and part.metadata.page_number:
                found.setdefault(part.metadata.page_number, []).append(_region(part))
        return found


def _region(part: Any) -> Region:  # noqa: ANN401 - unstructured ships no types
    points, system = part.metadata.coordinates.points, part.metadata.coordinates.system
    across = [float(x) / float(system.width) for x, _ in points]
    down = [float(y) / float(system.height) for _, y in points]
    kind = _KINDS.get(part.category, ElementKind.PARAGRAPH)
    return Region(kind, min(across), min(down), max(across), max(down))


class Silent:
    """An OCR agent of unstructured that reads nothing: a region without text keeps its place all the same."""

    def __init__(self, language: str) -> None:
        self.language = language

    def get_text_from_image(self, image: object) -> str:  # noqa: ARG002 - unstructured's interface
        return "…"

    def is_text_sorted(self) -> bool:
        return True


def _silent() -> str:
    from unstructured.partition.utils import constants

    if __name__ not in constants.OCR_AGENT_MODULES_WHITELIST:
        constants.OCR_AGENT_MODULES_WHITELIST.append(__name__)
    return f"{__name__}.{Silent.__name__}"


def ordered(sheet: Sheet, regions: Sequence[Region]) -> Sheet:
    """The page with its lines in the order of the regions.

    A line that no region holds stays behind the one that it stood behind.
    """
    ranks: list[int] = []
    pieces = [piece for line in sheet.lines for piece in (line.parts or (line,))]
    last = -1
    for piece in pieces:
        last = next((at for at, region in enumerate(regions) if region.holds(piece, sheet)), last)
        ranks.append(last)
    order = sorted(range(len(pieces)), key=lambda at: ranks[at])
    return replace(sheet, lines=tuple(pieces[at] for at in order))


def held(sheet: Sheet, regions: Sequence[Region], kind: ElementKind) -> AbstractSet[int]:
    """Which lines of the page lie in regions of a kind."""
    wanted = [region for region in regions if region.kind is kind]
    return {
        at for at, line in enumerate(sheet.lines) if any(each.holds(line, sheet) for each in wanted)
    }


def titles(sheet: Sheet, regions: Sequence[Region], levels: Mapping[float, int]) -> list[Heading]:
    """The regions that are headings, each with its lines, where it has some and not too many.

    Those that are set no larger than the text are below all that are; see `titles.sizes`.
    """
    deepest = max(levels.values(), default=0) + 1
    found: list[Heading] = []
    for region in regions:
        if region.kind is not ElementKind.HEADING:
            continue
        lines = [at for at, line in enumerate(sheet.lines) if region.holds(line, sheet)]
        if 0 < len(lines) <= _MOST_LINES and lines == list(range(lines[0], lines[-1] + 1)):
            own = [sheet.lines[at] for at in lines]
            level = level_by_size(own, levels) or deepest
            found.append(Heading(level, lines[0], len(lines), " ".join(line.text for line in own)))
    return sorted(found, key=lambda heading: heading.first)
