"""Files are known by their content; what is not read is refused with a word on what to do."""

import io
import zipfile

import pytest
from packed import tarred

from indexer.parse import media, zipped
from indexer.parse.media import sniff
from pipeline.errors import DamagedDocument, EmptyDocument, TooLarge, UnsupportedMedia
from tests.fixtures.ole_file import ole_file

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in members.items():
            target.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


WORD = archive(**{"word__document.xml": b"<w/>"})


def shown(value: object) -> str | None:
    """Names of tests: archives hold the time of their making."""
    return "bytes" if isinstance(value, bytes) else None


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        (b"%PDF-1.7\n...", "a.pdf", media.PDF),
        (b"\n\n%PDF-1.4\n...", "scan", media.PDF),
        (b"%PDF-1.7\n...", "wrongly.docx", media.PDF),
        (b"\xef\xbb\xbf %PDF-1.4\n...", "scan", media.PDF),
        (b"HTTP/1.1 200 OK\n\n%PDF-1.4\n...", "a.pdf", media.PDF),
        (b"A file begins with %PDF- and its version.", "magic.txt", media.TEXT),
        (b"# Magic\n\n`%PDF-1.7` begins it.", "magic.md", media.MARKDOWN),
        (WORD, "a.docx", media.DOCX),
        (WORD, "wrongly.pdf", media.DOCX),
        (WORD, "wrongly.txt", media.DOCX),
        (archive(**{"ppt__presentation.xml": b""}), "a.pptx", media.PPTX),
        (archive(**{"xl__workbook.xml": b""}), "a.xlsx", media.XLSX),
        (archive(mimetype=b"application/epub+zip"), "a.epub", media.EPUB),
        (b"<!DOCTYPE html><p>x", "page", media.HTML),
        (b"  <html><p>x", "page.txt", media.HTML),
        (b'<?xml version="1.0"?>\n<html xmlns="x"/>', "page.xml", media.HTML),
        (b"plain words", "page.html", media.HTML),
        (b"# title", "a.md", media.MARKDOWN),
        (b"a,b\n1,2", "a.csv", media.CSV),
        (b"a\tb", "a.tsv", media.TSV),
        (b"From: a@b\nTo: c@d\nSubject: x\n\nbody", "letter", media.MAIL),
        (b"Subject: x\n\nbody", "letter.eml", media.MAIL),
        (b"From: the heart\nof the sea", "poem.txt", media.TEXT),
        ("文字".encode("gbk"), "a.unknown", media.TEXT),
        (b"\x89PNG\r\n\x1a\n....", "a.pdf", media.PNG),
        (b"\xff\xd8\xff\xe0....", "a", media.JPEG),
        (b"RIFF\0\0\0\0WEBP", "a.webp", media.WEBP),
        (b"II*\0....", "a.tif", media.TIFF),
        (b"MM\0*....", "a.tif", media.TIFF),
        (rb"{\rtf1 hello}", "a.doc", media.RTF),
        (OLE + "WordDocument".encode("utf-16-le"), "cut.doc", media.DOC),
        (ole_file({"WordDocument": b"x", "ObjectPool": {"Workbook": b"y"}}), "a", media.DOC),
        (ole_file({"Workbook": b"x", "MBD1": {"WordDocument": b"y"}}), "a.doc", media.XLS),
        (ole_file({"PowerPoint Document": b"x"}), "a.xls", media.PPT),
        (
            ole_file({"__properties_version1.0": b"x", "a": {"WordDocument": b""}}),
            "a",
            media.OUTLOOK,
        ),
        (archive(mimetype=b"application/vnd.oasis.opendocument.spreadsheet"), "a.zip", media.ODS),
        (archive(mimetype=b"application/vnd.oasis.opendocument.text-template"), "a.ott", media.ODT),
        (archive(**{"a.txt": b"x"}), "a.zip", media.ZIP),
        (archive(**{"a.txt": b"x"}), "a", media.ZIP),
        (archive(), "a.zip", media.ZIP),
        (tarred({"a.txt": b"x"}), "a.txt", media.TAR),
        (tarred({"a.txt": b"x"}, "w:gz"), "a.tgz", media.GZIP),
        (tarred({"a.txt": b"x"}, "w:bz2"), "a", media.BZIP2),
        (tarred({"a.txt": b"x"}, "w:xz"), "a", media.XZ),
        (b"BZh9 is how this text begins", "a.txt", media.TEXT),
        (b'{"a": 1}', "a", media.JSON),
        (b'[{"a": 1}]', "a.json", media.JSON),
        (b'{"a": 1}', "a.jsonl", media.JSONL),
        (b'{"a": 1}', "a.txt", media.TEXT),
        (b"{braces} and words", "a", media.TEXT),
        (b"MZ is how this text begins", "a.txt", media.TEXT),
    ],
    ids=shown,
)
def test_content_decides_and_then_the_name(data: bytes, name: str, expected: str) -> None:
    assert sniff(data, name) == expected


def test_no_bytes_are_an_empty_document() -> None:
    with pytest.raises(EmptyDocument, match="empty"):
        sniff(b"", "a.pdf")


@pytest.mark.parametrize(
    ("data", "name", "advice"),
    [
        (b"GIF89a..\0.", "a.gif", "Save it as PDF"),
        (b"RIFF\0\0\0\0WAVE", "a.wav", "Upload the document"),
        (OLE, "a.thing", "current format"),
        (b"Rar!\x1a\x07\x01\x00", "a.rar", r"as \.zip"),
        (b"7z\xbc\xaf\x27\x1c", "a.zip", r"as \.zip"),
        (
            archive(mimetype=b"application/vnd.oasis.opendocument.formula"),
            "a.odf",
            "Save it as PDF",
        ),
        (b"\x7fELF\x02\x01", "a.out", "Programs"),
    ],
    ids=shown,
)
def test_what_is_not_read_is_refused_with_advice(data: bytes, name: str, advice: str) -> None:
    with pytest.raises(UnsupportedMedia, match=advice):
        sniff(data, name)


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (WORD[: len(WORD) // 2], "a.docx", "damaged"),
        (b"<html><body>no pdf</body></html>", "a.pdf", "not what its name says"),
        (b"MZ\x90\x00" + bytes(100), "a.pdf", "not what its name says"),
        (archive(**{"ppt__slides__slide1.xml": b""}), "a.pptx", "not what its name says"),
        (tarred({"a.txt": b"x"}, "w:gz"), "a.pdf", "not what its name says"),
        (b"<html>Not found</html>", "a.zip", "not what its name says"),
        (OLE + "EncryptedPackage".encode("utf-16-le"), "a.docx", "Remove the password"),
        (ole_file({"EncryptedPackage": b"x"}), "a.docx", "Remove the password"),
    ],
    ids=shown,
)
def test_what_its_name_promises_but_is_not_is_damaged(data: bytes, name: str, reason: str) -> None:
    with pytest.raises(DamagedDocument, match=reason):
        sniff(data, name)


def test_an_archive_that_swells_is_too_large_and_small_ones_pass() -> None:
    zipped.check_size(WORD, "a.docx")
    with pytest.raises(TooLarge, match="unpacks to"):
        zipped.check_size(archive(bomb=bytes(25_000_000)), "bomb.docx")
    with pytest.raises(TooLarge, match="unpacks to"):
        zipped.check_size(archive(much=b"x" * 5000), "much.docx", max_unpacked=4000)
