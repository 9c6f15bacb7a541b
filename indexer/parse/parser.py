"""The parser of everything: looks at the bytes, then asks the one that reads them."""

import errno
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from indexer.parse import outline
from indexer.parse.epub import EpubParser
from indexer.parse.html import HtmlParser
from indexer.parse.images import ImageParser
from indexer.parse.layout import LayoutModel
from indexer.parse.legacy import LegacyParser
from indexer.parse.limits import DEFAULT_LIMITS, Limits
from indexer.parse.lines import Sheet
from indexer.parse.mail import MailParser
from indexer.parse.media import EXTENSIONS, sniff
from indexer.parse.nesting import TooDeep, in_xml
from indexer.parse.ocr import RapidRecognizer
from indexer.parse.office import DocxParser
from indexer.parse.outlook import OutlookParser
from indexer.parse.pdf import PdfParser
from indexer.parse.records import JsonParser
from indexer.parse.rtf import RtfParser
from indexer.parse.sheets import SeparatedParser, SpreadsheetParser
from indexer.parse.slides import PptxParser
from indexer.parse.storable import storable
from indexer.parse.text import MarkdownParser, TextParser
from indexer.parse.unpack import ArchiveParser
from indexer.parse.workbooks import OldWorkbookParser, OpenSheetParser
from pipeline.errors import (
    DamagedDocument,
    EmptyDocument,
    RagError,
    TooLarge,
    Unavailable,
    UnsupportedMedia,
    causes,
)
from pipeline.ports import Parser
from pipeline.types import ElementKind, Parsed

MEDIA_TYPES: Mapping[str, str] = MappingProxyType(dict(EXTENSIONS))
"""File extension to media type of all that is read, for the documentation and the file picker."""

_MACHINE = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EIO,
        errno.EACCES,
        errno.EPERM,
        errno.ENOENT,
    }
)
"""Files are read from memory, so these are of the machine. An OSError of a library for bad content
has no number (UnidentifiedImageError, zlib's) or that of a number out of range (EINVAL, EOVERFLOW)."""


@runtime_checkable
class Paged(Parser, Protocol):
    """A parser whose pages can be read apart, by several processes, and joined; raises as `parse` does."""

    def count(self, data: bytes, name: str) -> int: ...
    def sheets(self, data: bytes, name: str, first: int, last: int) -> Iterator[Sheet]: ...
    def joined(self, data: bytes, name: str, sheets: tuple[Sheet, ...]) -> Parsed: ...


class FileParser:
    """Reads every file that one of its parsers reads, chosen by content rather than by name."""

    def __init__(self, *parsers: Parser) -> None:
        self._parsers = {kind: parser for parser in parsers for kind in parser.media_types}

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset(self._parsers)

    def parse(self, data: bytes, name: str) -> Parsed:
        """Elements in reading order, each with text and none with outer whitespace.

        Raises UnsupportedMedia, EmptyDocument, DamagedDocument or TooLarge, each with a sentence;
        Unavailable where the machine fails (a full disk, too many open files). MemoryError and
        ImportError pass: they say nothing of the file.
        """
        with _translated(name):
            return _checked(self._parser(data, name).parse(data, name), name)

    def pages(self, data: bytes, name: str) -> int | None:
        """How many pages `sheets` can be asked for; None for a file that is only read as a whole. Raises as `parse`."""
        with _translated(name):
            parser = self._parser(data, name)
            return parser.count(data, name) if isinstance(parser, Paged) else None

    def sheets(self, data: bytes, name: str, first: int, last: int) -> tuple[Sheet, ...]:
        """The pages from `first` up to `last`, counted from 0. Raises as `parse`."""
        with _translated(name):
            return tuple(self._paged(data, name).sheets(data, name, first, last))

    def joined(self, data: bytes, name: str, sheets: tuple[Sheet, ...]) -> Parsed:
        """What `parse` returns, of pages that were read already. Raises as `parse`."""
        with _translated(name):
            return _checked(self._paged(data, name).joined(data, name, sheets), name)

    def _paged(self, data: bytes, name: str) -> Paged:
        parser = self._parser(data, name)
        if not isinstance(parser, Paged):
            raise TypeError(f"a {sniff(data, name)} file has no pages of its own")
        return parser

    def _parser(self, data: bytes, name: str) -> Parser:
        media_type = sniff(data, name)
        parser = self._parsers.get(media_type)
        if parser is None:
            raise UnsupportedMedia(f"“{name}” is of a kind ({media_type}) that is not read here.")
        return parser


def _checked(parsed: Parsed, name: str) -> Parsed:
    """With heading paths; raises EmptyDocument where nothing could be found."""
    elements = outline.outlined(parsed.elements)
    if not any(
        any(char.isalnum() for char in element.text)
        for element in elements
        if element.kind is not ElementKind.FURNITURE  # never chunked, so never found
    ):
        raise EmptyDocument(f"“{name}” has no text. Check the file and upload it again.")
    return storable(Parsed(elements, parsed.title, parsed.pages))


@contextmanager
def _translated(name: str) -> Generator[None, None, None]:
    """Errors of the libraries as ours."""
    try:
        yield
    except (RagError, MemoryError, ImportError):
        raise
    except Exception as error:
        ours = next(filter(_is_ours, causes(error)), None)
        if isinstance(ours, OSError):
            raise Unavailable(
                f"“{name}” couldn't be read because the server lacks room or files "
                f"({ours.strerror}). The file is not to blame: try again later."
            ) from error
        if ours is not None:
            raise MemoryError(str(ours)) from error
        deep = next(filter(None, map(_too_deep, causes(error))), None)
        if deep is not None:
            raise TooLarge(f"“{name}” {deep}.") from error
        # A dozen libraries stand behind this call, each with errors of its own for files that
        # break their rules (KeyError, XMLSyntaxError, PackageNotFoundError, struct.error, ...);
        # no list of them is complete, and none means anything else to a user.
        raise DamagedDocument(
            f"“{name}” can't be read: its content breaks the rules of its format "
            f"({type(error).__name__}). Open it, save it again and upload it."
        ) from error


def _too_deep(error: BaseException) -> TooDeep | None:
    return error if isinstance(error, TooDeep) else in_xml(error)


def _is_ours(error: BaseException) -> bool:
    """Whether this machine failed rather than the file."""
    if isinstance(error, OSError):
        return error.errno in _MACHINE
    return isinstance(error, MemoryError)


def build_parser(
    layout_model: LayoutModel | None = None, limits: Limits = DEFAULT_LIMITS
) -> FileParser:
    """All formats; the one place that names the concrete parsers."""
    recognizer = RapidRecognizer()  # one engine, as each takes hundreds of megabytes
    pages, unpacked = limits.pages, limits.unpacked_mb * 1_000_000
    nesting = limits.nesting
    readers: tuple[Parser, ...] = (
        PdfParser(recognizer=recognizer, layout_model=layout_model, max_pages=pages),
        DocxParser(max_unpacked=unpacked),
        PptxParser(max_unpacked=unpacked),
        SpreadsheetParser(max_unpacked=unpacked),
        SeparatedParser(),
        HtmlParser(nesting=nesting),
        MarkdownParser(nesting=nesting),
        TextParser(),
        EpubParser(max_unpacked=unpacked, nesting=nesting),
        RtfParser(nesting=nesting),
        OldWorkbookParser(),
        OpenSheetParser(max_unpacked=unpacked),
        JsonParser(nesting=nesting),
        ImageParser(recognizer=recognizer, max_pages=pages),
    )
    return FileParser(
        *readers,
        LegacyParser(FileParser(*readers)),
        MailParser(nesting=nesting),
        OutlookParser(nesting=nesting),
        ArchiveParser(),
    )
