"""What a file is: by its first bytes and members, and only then by its name."""

import io
import re
import struct
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from indexer.parse import zipped
from pipeline.errors import DamagedDocument, EmptyDocument, UnsupportedMedia

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
EPUB = "application/epub+zip"
HTML = "text/html"
MARKDOWN = "text/markdown"
CSV = "text/csv"
TSV = "text/tab-separated-values"
MAIL = "message/rfc822"
TEXT = "text/plain"
RTF = "application/rtf"
XLS = "application/vnd.ms-excel"
ODS = "application/vnd.oasis.opendocument.spreadsheet"
ODT = "application/vnd.oasis.opendocument.text"
ODP = "application/vnd.oasis.opendocument.presentation"
DOC = "application/msword"
PPT = "application/vnd.ms-powerpoint"
OUTLOOK = "application/vnd.ms-outlook"
JSON = "application/json"
JSONL = "application/jsonl"
PNG = "image/png"
JPEG = "image/jpeg"
TIFF = "image/tiff"
WEBP = "image/webp"
ZIP = "application/zip"
TAR = "application/x-tar"
GZIP = "application/gzip"
BZIP2 = "application/x-bzip2"
XZ = "application/x-xz"

ARCHIVES = frozenset({ZIP, TAR, GZIP, BZIP2, XZ})
"""Files that are nothing but other files."""
EXTENSIONS: Mapping[str, str] = MappingProxyType(
    {
        ".pdf": PDF,
        ".docx": DOCX,
        ".pptx": PPTX,
        ".xlsx": XLSX,
        ".epub": EPUB,
        ".html": HTML,
        ".htm": HTML,
        ".xhtml": HTML,
        ".md": MARKDOWN,
        ".markdown": MARKDOWN,
        ".csv": CSV,
        ".tsv": TSV,
        ".tab": TSV,
        ".eml": MAIL,
        ".txt": TEXT,
        ".text": TEXT,
        ".log": TEXT,
        ".rtf": RTF,
        ".xls": XLS,
        ".ods": ODS,
        ".odt": ODT,
        ".odp": ODP,
        ".doc": DOC,
        ".ppt": PPT,
        ".msg": OUTLOOK,
        ".json": JSON,
        ".jsonl": JSONL,
        ".ndjson": JSONL,
        ".png": PNG,
        ".jpg": JPEG,
        ".jpeg": JPEG,
        ".tif": TIFF,
        ".tiff": TIFF,
        ".webp": WEBP,
        ".zip": ZIP,
        ".tar": TAR,
        ".tgz": GZIP,
        ".gz": GZIP,
        ".bz2": BZIP2,
        ".xz": XZ,
    }
)
"""Every name that is expected, for the documentation and the UI's file picker."""

_DOCUMENTS = frozenset(
    {PDF, DOCX, PPTX, XLSX, EPUB, XLS, ODS, ODT, ODP, DOC, PPT, OUTLOOK, PNG, JPEG, TIFF, WEBP}
)
_BINARY = _DOCUMENTS | ARCHIVES
_PACKED = ((b"\x1f\x8b\x08", GZIP), (b"\xfd7zXZ\x00", XZ))
_BZIP2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")
_WHOLE = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How files begin whose kind stands in their members: archives and old Office files."""
_BEGINNING = 2**20
_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"II*\x00", TIFF),
    (b"MM\x00*", TIFF),
    (b"II+\x00", TIFF),
    (b"MM\x00+", TIFF),
)
_MEMBERS = (("word/document", DOCX), ("ppt/presentation", PPTX), ("xl/workbook", XLSX))
_SAVE_AS = "Save it as {} and upload that."
_PACK_AS = "Pack the files as .zip and upload that."
_UNREAD = (
    (b"GIF8", "an image", _SAVE_AS.format("PDF")),
    (b"7z\xbc\xaf\x27\x1c", "an archive", _PACK_AS),
    (b"Rar!\x1a\x07", "an archive", _PACK_AS),
    (b"(\xb5/\xfd", "an archive", _PACK_AS),
    (b"\x7fELF", "a program", "Programs are not documents."),
    (b"MZ", "a program", "Programs are not documents."),
    (b"%!PS", "a PostScript file", _SAVE_AS.format("PDF")),
    (b"ID3", "a sound or video file", "Only documents are read."),
    (b"OggS", "a sound or video file", "Only documents are read."),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_STREAMS = (
    ("__properties_version1.0", OUTLOOK),
    ("WordDocument", DOC),
    ("PowerPoint Document", PPT),
    ("Workbook", XLS),
    ("Book", XLS),
)
_OPEN_DOCUMENTS = frozenset({ODS, ODT, ODP})
_MAIL_FIELDS = frozenset(
    "from to cc subject date received return-path message-id mime-version delivered-to sender"
    " reply-to content-type x-mailer".split()
)
_TAR_BLOCK = 512
_PDF_MARK = b"%PDF-"
_PDF_REACH = 1024
"""How far into a file, in bytes, PDF readers look for the mark."""
_LONGEST_TYPE = 100
_JSON = re.compile(rb"[\[{]\s*[\[{\"]")
_BLANK = b"\xef\xbb\xbf \t\r\n"
_HTML_STARTS = (b"<!doctype html", b"<html", b"<head", b"<body")


def sniff_file(path: Path, name: str) -> str:
    """`sniff` for a file on the disk; only one whose members tell its kind is read whole."""
    with path.open("rb") as file:
        data = file.read(_BEGINNING)
        if data.startswith(_WHOLE):
            data += file.read()
    return sniff(data, name)


def sniff(data: bytes, name: str) -> str:
    """The media type of a file.

    Raises EmptyDocument for no bytes, UnsupportedMedia for a kind that is not read, TooLarge for an
    archive of more members than documents have, and DamagedDocument when the name promises a kind
    that the bytes are not. Nothing is unpacked but the first bytes of an archive's own type.
    """
    if not data:
        raise EmptyDocument(
            f"“{name}” is empty: it has no bytes. Check the file and upload it again."
        )
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zipped(data, name)
    if data.startswith(_OLE):
        return _ole_kind(data, name)
    if data.startswith(b"{\\rtf"):
        return RTF
    promised = EXTENSIONS.get(PurePosixPath(name.lower()).suffix)
    if _is_pdf(data[:_PDF_REACH], promised):
        return PDF
    if image := _image(data[:16]):
        return image
    if (packed := _packed(data[:_TAR_BLOCK])) and promised not in _DOCUMENTS:
        return packed
    _refuse_unread(data, name, promised)
    if promised in _BINARY:
        raise DamagedDocument(
            f"“{name}” is not what its name says: its content is not that of a "
            f"{PurePosixPath(name).suffix} file. Check the file, save it again and upload it."
        )
    if promised and promised is not TEXT:
        return promised
    if promised is None and _JSON.match(data[:_LONGEST_TYPE].lstrip(_BLANK)):
        return JSON
    return _text_kind(data)


def _is_pdf(head: bytes, promised: str | None) -> bool:
    """PDF readers accept anything before the mark, but a text may quote it: the name decides then."""
    return head.lstrip(_BLANK).startswith(_PDF_MARK) or (promised is PDF and _PDF_MARK in head)


def _image(head: bytes) -> str | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WEBP
    return next((kind for magic, kind in _IMAGES if head.startswith(magic)), None)


def _packed(head: bytes) -> str | None:
    if head[:3] == b"BZh" and head[4:10] in _BZIP2_BLOCKS:
        return BZIP2
    if is_tar(head):
        return TAR
    return next((kind for magic, kind in _PACKED if head.startswith(magic)), None)


def is_tar(head: bytes) -> bool:
    """Whether a file begins with a header of TAR: its checksum is right (POSIX pax, "ustar Interchange Format")."""
    block = head[:_TAR_BLOCK]
    if len(block) < _TAR_BLOCK or not block[0]:
        return False
    try:
        told = int(block[148:156].strip(b" \x00") or b"x", 8)
    except ValueError:
        return False
    return told == sum(block[:148]) + 8 * ord(" ") + sum(block[156:])


def _refuse_unread(data: bytes, name: str, promised: str | None) -> None:
    for magic, what, advice in _UNREAD:
        if data.startswith(magic) and not (len(magic) < 4 and data[:512].isascii()):
            if promised in _DOCUMENTS:
                raise DamagedDocument(f"“{name}” is not what its name says: it is {what}. {advice}")
            raise UnsupportedMedia(f"“{name}” is {what}, which is not read here. {advice}")
    if data[:4] == b"RIFF" or data[4:8] == b"ftyp":
        raise UnsupportedMedia(
            f"“{name}” is an image or a recording, which is not read here. Upload the document itself."
        )
    if data.startswith(b"BM") and promised is None and b"\x00" in data[:64]:
        raise UnsupportedMedia(f"“{name}” is an image, which is not read here. Save it as PDF.")


def _zipped(data: bytes, name: str) -> str:
    with zipped.opened(data, name) as archive:
        members = set(archive.namelist())
        kind = b""
        if "mimetype" in members:
            kind = zipped.beginning(archive, "mimetype", _LONGEST_TYPE, name).strip()
    if kind == EPUB.encode() or "META-INF/container.xml" in members:
        return EPUB
    if kind.startswith(b"application/vnd.oasis"):
        opened = kind.decode("ascii", "replace").removesuffix("-template")
        if opened in _OPEN_DOCUMENTS:
            return opened
        raise UnsupportedMedia(
            f"“{name}” is an OpenDocument drawing or formula, which is not read here. Save it as PDF "
            "and upload that."
        )
    for prefix, media_type in _MEMBERS:
        if any(member.startswith(prefix) and member.endswith(".xml") for member in members):
            return media_type
    if EXTENSIONS.get(PurePosixPath(name.lower()).suffix) in _DOCUMENTS:
        raise DamagedDocument(
            f"“{name}” is not what its name says: there is no document inside. Save it again and "
            "upload it."
        )
    return ZIP


def _ole_kind(data: bytes, name: str) -> str:
    """By the streams of the outermost folder, as an Office file may hold others inside."""
    streams = _ole_streams(data)
    if streams & {"EncryptedPackage", "EncryptionInfo"}:
        raise DamagedDocument(f"“{name}” is encrypted. Remove the password and upload it again.")
    for stream, media_type in _OLE_STREAMS:
        if stream in streams:
            return media_type
    raise UnsupportedMedia(
        f"“{name}” is an old Office file of a kind that is not read here. Save it in a current "
        "format (.docx, .pptx, .xlsx) and upload that."
    )


def _ole_streams(data: bytes) -> set[str]:
    """The names in the outermost folder; of a damaged file, those that its bytes show."""
    from olefile import OleFileIO

    try:
        with OleFileIO(io.BytesIO(data)) as file:
            return {entry.name for entry in file.root.kids}
    except (OSError, ValueError, LookupError, AttributeError, struct.error, RecursionError):
        names = ["EncryptedPackage", *(stream for stream, _ in _OLE_STREAMS)]
        return {stream for stream in names if stream.encode("utf-16-le") in data}


def _text_kind(data: bytes) -> str:
    """HTML and mail are known by how they begin; everything else is plain text."""
    head = data[:4096].lstrip(_BLANK).lower()
    if head.startswith(_HTML_STARTS) or (head.startswith(b"<?xml") and b"<html" in head):
        return HTML
    fields = set()
    for line in data[:4096].splitlines():
        if line[:1] in (b" ", b"\t"):
            continue
        field, colon, _ = line.partition(b":")
        if not colon or b" " in field:
            break
        fields.add(field.decode("ascii", "replace").lower())
    return MAIL if len(fields & _MAIL_FIELDS) >= 3 else TEXT
