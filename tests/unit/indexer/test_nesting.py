"""What lies as deep as is allowed is read; what lies deeper is refused with a sentence, never left out."""

import io
import zipfile
from collections.abc import Callable
from email.message import EmailMessage

import pytest

from indexer.parse.limits import Limits
from indexer.parse.parser import build_parser
from pipeline.errors import TooLarge

MOST = 40
PARSER = build_parser(limits=Limits(nesting=MOST))
DEEP = "The deepest word is amaranth."


def page(levels: int) -> bytes:
    """Elements in each other, html and body among them."""
    inside = levels - 3
    return f"<html><body>{'<div>' * inside}<p>{DEEP}</p>{'</div>' * inside}</body></html>".encode()


def markdown(levels: int) -> bytes:
    return ("> " * (levels - 3) + DEEP).encode()  # html, body and the paragraph around it


def values(levels: int) -> bytes:
    return ("[" * levels + f'"{DEEP}"' + "]" * levels).encode()


def rich_text(levels: int) -> bytes:
    return (r"{\rtf1\ansi " + "{" * (levels - 1) + DEEP + "}" * levels).encode()


def mail(levels: int) -> bytes:
    part = EmailMessage()
    part.set_content(DEEP)
    for _ in range(levels - 1):
        outer = EmailMessage()
        outer.make_mixed()
        outer.attach(part)
        part = outer
    part["From"], part["Subject"] = "a@example.org", "nested"
    return part.as_bytes()


def book(levels: int) -> bytes:
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><manifest>'
        '<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="a"/></spine></package>'
    )
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="p.opf"/></rootfiles></container>'
    )
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as out:
        out.writestr("mimetype", "application/epub+zip")
        out.writestr("META-INF/container.xml", container)
        out.writestr("p.opf", package)
        out.writestr("a.xhtml", page(levels))
    return made.getvalue()


KINDS = {
    "a.html": page,
    "a.md": markdown,
    "a.json": values,
    "a.rtf": rich_text,
    "a.eml": mail,
    "a.epub": book,
}


@pytest.mark.parametrize(("name", "nested"), KINDS.items(), ids=list(KINDS))
def test_what_is_nested_too_deep_is_refused_and_what_is_not_is_read(
    name: str, nested: Callable[[int], bytes]
) -> None:
    read = PARSER.parse(nested(MOST), name)
    assert DEEP in "\n".join(element.text for element in read.elements)
    for levels in (MOST + 1, MOST + 2, 4 * MOST):
        with pytest.raises(TooLarge, match=f"more than {MOST} levels of nesting"):
            PARSER.parse(nested(levels), name)


def test_formatting_that_was_never_closed_is_no_nesting() -> None:
    text = "<p>" + "".join(f"<font><b>word{number} " for number in range(500))
    read = PARSER.parse(text.encode(), "a.html")
    assert "word499" in " ".join(element.text for element in read.elements)
