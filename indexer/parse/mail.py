"""Mail: the headers people read, the body by its own charset, the names of attachments, and what is attached."""

import base64
import email
import email.header
import email.policy
import hashlib
import io
import mimetypes
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.errors import HeaderParseError, MessageError
from email.message import EmailMessage, MIMEPart
from typing import Any

from indexer.parse import outline
from indexer.parse.archives import Entry
from indexer.parse.encoding import decode
from indexer.parse.html import read_html
from indexer.parse.media import MAIL
from indexer.parse.nesting import NESTING, TooDeep
from indexer.parse.text import read_text
from pipeline.errors import DamagedDocument, TooLarge
from pipeline.types import Element, Parsed

_FIELDS = (("From", "From"), ("To", "To"), ("Cc", "Cc"), ("Date", "Date"), ("Subject", "Subject"))
_LONGEST_PARSED = 2_000
_LONGEST_FIELD = 20_000
"""Characters of a header that are read, some 500 addresses."""
DECORATION_BYTES = 50_000
"""A picture that a body shows is decoration up to this size (logos, signatures), and a screenshot from it on."""
_NAMING = frozenset({"content-disposition", "content-type"})
_RAW_NAME = re.compile(r'name="([^"]+)"')
_SIGNATURES = frozenset(
    {
        "application/pkcs7-signature",
        "application/x-pkcs7-signature",
        "application/pgp-signature",
        "application/pgp-keys",
    }
)
_STUMBLES = (
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    MessageError,
    RuntimeError,
    AssertionError,
)
"""What the standard library's mail parser raises for mails that break the rules."""


@dataclass(frozen=True, slots=True)
class Part:
    """A body (without a name) or an attachment of a mail that is to be written."""

    name: str
    content: bytes
    media_type: str = "application/octet-stream"


class MailParser:
    """Reads EML: headers, body, names of attachments. What is attached are documents of their own (`attached`)."""

    def __init__(self, *, nesting: int = NESTING) -> None:
        self._nesting = nesting

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({MAIL})

    def parse(self, data: bytes, name: str) -> Parsed:  # noqa: ARG002 - the port gives the name
        message = _message(data, self._nesting)
        elements = outline.outlined(_read(message, self._nesting))
        return Parsed(elements, _field(message, "Subject") or None)


def attached(data: bytes, nesting: int = NESTING) -> Iterator[Entry]:
    """The attachments of a mail in their order, mails in it as .eml; decoration and signatures are left out.

    Raises DamagedDocument where the mail cannot be taken apart, TooLarge where its parts nest too deep.
    """
    try:
        message = _message(data, nesting)
        for part, name in _attachments(message):
            yield _entry(part, name)
    except TooDeep as error:
        raise TooLarge(f"it {error}") from error
    except _STUMBLES as error:
        raise DamagedDocument("its parts break the rules of mail") from error


def written(fields: Sequence[tuple[str, str]], parts: Sequence[Part]) -> bytes:
    """A mail of these headers and parts, the same bytes for the same content."""
    bodies = [base64.encodebytes(part.content) for part in parts]
    boundary = f"part-{hashlib.sha256(b''.join(bodies)).hexdigest()[:40]}"
    lines = [f"{label}: {value}" for label, value in fields if value]
    lines += ["MIME-Version: 1.0", f'Content-Type: multipart/mixed; boundary="{boundary}"', ""]
    mail = bytearray("\n".join(lines).encode("utf-8", "replace"))
    for part, body in zip(parts, bodies, strict=True):
        mail += f"\n--{boundary}\nContent-Type: {part.media_type}\n".encode()
        mail += b"Content-Transfer-Encoding: base64\n"
        if part.name:
            name = urllib.parse.quote(part.name.encode("utf-8", "replace"))
            mail += f"Content-Disposition: attachment; filename*=utf-8''{name}\n".encode()
        mail += b"\n" + body
    return bytes(mail + f"\n--{boundary}--\n".encode())


def _entry(part: MIMEPart, name: str) -> Entry:
    try:
        content = _content(part)
    except _STUMBLES:
        return Entry(name, problem="it is damaged: save it again from the mail")
    return Entry(name, lambda: io.BytesIO(content))


def _read(message: MIMEPart, nesting: int) -> Iterator[Element]:
    head = [f"{label}: {value}" for label, key in _FIELDS if (value := _field(message, key))]
    names = [name for _, name in _attachments(message)]
    if names:
        head.append(f"Attachments: {', '.join(names)}")
    yield Element("\n".join(head))
    body = _body(message)
    if body is not None:
        yield from _text_of(body, nesting)
    for part in _parts(message, body):
        if part is not body and _is_text(part):
            yield from _text_of(part, nesting)


def _attachments(message: MIMEPart) -> list[tuple[MIMEPart, str]]:
    """The attached parts with a name each."""
    body = _body(message)
    shown = body.get_payload(decode=True) if body is not None else b""
    html = shown if isinstance(shown, bytes) else b""
    parts = [
        part
        for part in _parts(message, body)
        if part is not body and not _is_text(part) and not _is_decoration(part, html)
    ]
    return [(part, _filename(part) or _made_up(part, at)) for at, part in enumerate(parts, 1)]


def _body(message: MIMEPart) -> MIMEPart | None:
    return message.get_body(preferencelist=("html", "plain"))


def _is_text(part: MIMEPart) -> bool:
    """A nameless text goes on where the body ends."""
    nameless = part.get_content_maintype() == "text" and not _filename(part)
    return nameless and part.get_content_disposition() != "attachment"


def _is_decoration(part: MIMEPart, html: bytes) -> bool:
    if part.get_content_type() in _SIGNATURES:
        return True
    if part.get_content_maintype() != "image":
        return False
    given = str(part.get("Content-ID", "")).strip().strip("<>")
    shown = bool(given) and b"cid:" + given.encode("utf-8", "replace") in html
    inside = part.get_content_disposition() != "attachment" and bool(given)
    inline = part.get_content_disposition() == "inline"
    return (shown or inside or inline) and len(_bytes(part)) < DECORATION_BYTES


def _made_up(part: MIMEPart, at: int) -> str:
    if part.get_content_type() == MAIL:
        inner = part.get_payload(0) if part.is_multipart() else None
        subject = _field(inner, "Subject") if isinstance(inner, MIMEPart) else ""
        return f"{subject.replace('/', '_')[:100].strip() or f'message {at}'}.eml"
    return f"attachment {at}{mimetypes.guess_extension(part.get_content_type()) or ''}"


def _content(part: MIMEPart) -> bytes:
    if part.get_content_type() == MAIL and part.is_multipart():
        inner: Any = part.get_payload(0)
        # Under this policy headers are written as they came, and never read.
        return bytes(inner.as_bytes(policy=email.policy.compat32.clone(max_line_length=0)))
    return _bytes(part)


class _Policy(email.policy.EmailPolicy):
    """The default policy, but the grammar of headers, which takes the square of their length and
    more, reads short ones only. Of longer ones only the encoded words are decoded; the types and
    names of parts are cut.
    """

    def header_fetch_parse(self, name: str, value: str) -> Any:  # noqa: ANN401 - as its parent
        if len(value) <= _LONGEST_PARSED:
            return super().header_fetch_parse(name, value)
        if name.lower().startswith("content-"):
            return super().header_fetch_parse(name, value[:_LONGEST_PARSED])
        words = email.header.decode_header(" ".join(value[:_LONGEST_FIELD].split()))
        return str(email.header.make_header(words))


def _message(data: bytes, nesting: int) -> EmailMessage:
    """Raises TooDeep for more than `nesting` parts in each other."""
    policy: Any = _Policy(max_line_length=None)  # lines of headers may be as long as they like
    try:
        message = email.message_from_bytes(data.lstrip(b"\r\n"), policy=policy)
    except RecursionError as error:
        raise TooDeep(nesting) from error
    if not isinstance(message, EmailMessage):  # pragma: no cover - what the policy makes
        raise TypeError(type(message))
    level: list[Any] = [message]
    for _ in range(nesting):
        level = [part for each in level if each.is_multipart() for part in each.get_payload()]
        if not level:
            return message
    raise TooDeep(nesting)


def _parts(message: MIMEPart, body: MIMEPart | None) -> Iterator[MIMEPart]:
    """The leaves besides the body; of alternatives only the body counts, mails stay whole."""
    if message is body or message.get_content_type() == MAIL:
        yield message
    elif message.is_multipart():
        subparts = [part for part in message.iter_parts() if isinstance(part, MIMEPart)]
        if message.get_content_type() == "multipart/alternative":
            holders = [part for part in subparts if body is not None and body in part.walk()]
            subparts = holders or subparts[-1:]
        for part in subparts:
            yield from _parts(part, body)
    else:
        yield message


def _text_of(part: MIMEPart, nesting: int) -> list[Element]:
    text = decode(_bytes(part), part.get_content_charset())
    if part.get_content_subtype() == "html":
        return read_html(text, nesting)[0]
    return read_text(text)


def _bytes(part: MIMEPart) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _filename(part: MIMEPart) -> str:
    name = part.get_filename() or ""
    if "�" in name:  # the standard library gives up raw bytes in parameters, but keeps the header
        raw = " ".join(str(value) for key, value in part.raw_items() if key.lower() in _NAMING)
        if found := _RAW_NAME.search(raw):
            name = found[1]
    return _readable(name)


def _field(message: MIMEPart, name: str) -> str:
    try:
        return _readable(str(message.get(name, "")))
    except (ValueError, IndexError, AttributeError, TypeError, LookupError, HeaderParseError):
        return ""  # the standard library stumbles over some malformed address lists


def _readable(text: str) -> str:
    """Raw bytes in headers, which the standard library keeps as surrogates, decoded by their look."""
    if not text.isascii():
        raw = text.encode("utf-8", "surrogateescape")
        if any("\udc80" <= char <= "\udcff" for char in text):
            text = decode(raw)
    return outline.one_line(text)
