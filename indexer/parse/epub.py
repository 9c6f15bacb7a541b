"""EPUB: the book's chapters in the order of its spine, each read as the HTML that it is.

`unstructured` would run pandoc over a temporary file; the archive is simple enough without.
"""

import io
import posixpath
import re
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote

from indexer.parse import outline, zipped
from indexer.parse.encoding import decode
from indexer.parse.html import read_html
from indexer.parse.media import EPUB
from indexer.parse.nesting import NESTING
from pipeline.errors import DamagedDocument
from pipeline.types import Element, Parsed

if TYPE_CHECKING:
    from lxml.etree import _Element

_OPF = "{http://www.idpf.org/2007/opf}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_PAGES = frozenset({"application/xhtml+xml", "text/html", "application/x-dtbook+xml"})
_FONT_OBFUSCATION = re.compile(
    rb'Algorithm="(?:http://www\.idpf\.org/2008/embedding|http://ns\.adobe\.com/pdf/enc#RC)"'
)


class EpubParser:
    """Reads EPUB 2 and 3. Raises DamagedDocument for books without a spine and for protected ones."""

    def __init__(self, *, max_unpacked: int = zipped.MAX_UNPACKED, nesting: int = NESTING) -> None:
        self._max_unpacked = max_unpacked
        self._nesting = nesting

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({EPUB})

    def parse(self, data: bytes, name: str) -> Parsed:
        """Raises TooLarge as `zipped.check_size` does."""
        zipped.check_size(data, name, max_unpacked=self._max_unpacked)
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            _refuse_protected(book, name)
            folder, package = _package(book, name)
            # Each chapter once, since a spine may name one a million times.
            chapters = dict.fromkeys(
                posixpath.normpath(posixpath.join(folder, chapter)) for chapter in _spine(package)
            )
            elements = [
                element
                for chapter in chapters
                for element in _chapter(book, chapter, self._nesting)
            ]
        found = package.find(f".//{_DC}title")
        title = outline.one_line(found.text or "") if found is not None else ""
        return Parsed(outline.outlined(elements), title or outline.first_heading(elements))


def _refuse_protected(book: zipfile.ZipFile, name: str) -> None:
    if "META-INF/encryption.xml" not in book.namelist():
        return
    rules = book.read("META-INF/encryption.xml")
    ciphers = len(re.findall(rb"<(?:\w+:)?EncryptionMethod\b", rules))
    if ciphers > len(_FONT_OBFUSCATION.findall(rules)):
        raise DamagedDocument(
            f"“{name}” is copy-protected. Remove the protection and upload it again."
        )


def _package(book: zipfile.ZipFile, name: str) -> tuple[str, "_Element"]:
    """The folder and the root of the package file that the container names."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    try:
        container = etree.fromstring(book.read("META-INF/container.xml"), parser)
        path = container.find(f".//{_CONTAINER}rootfile").get("full-path")
        package = etree.fromstring(book.read(path), parser)
        package.tag  # noqa: B018 - None for an empty package file, an AttributeError like the others
    except (KeyError, AttributeError, etree.XMLSyntaxError) as error:
        raise DamagedDocument(
            f"“{name}” is damaged: the list of its chapters is missing. Upload it again from the "
            "original."
        ) from error
    return posixpath.dirname(path), package


def _spine(package: "_Element") -> Iterator[str]:
    """Paths of the chapters in reading order, without the book's own table of contents."""
    items = {
        item.get("id"): item
        for item in package.iter(f"{_OPF}item")
        if item.get("media-type") in _PAGES and "nav" not in (item.get("properties") or "").split()
    }
    for reference in package.iter(f"{_OPF}itemref"):
        item = items.get(reference.get("idref"))
        if item is not None and item.get("href"):
            yield unquote(item.get("href").split("#")[0])


def _chapter(book: zipfile.ZipFile, path: str, nesting: int) -> list[Element]:
    """A chapter's elements; one that the archive lacks is left out, as reading programs do."""
    try:
        data = book.read(path)
    except KeyError:
        return []
    return read_html(decode(data), nesting)[0]
