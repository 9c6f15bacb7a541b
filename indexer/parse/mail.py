"""Mail: the headers people read, the body by its own charset, and attachments as parts of it."""

import email
import email.header
import email.policy
from collections.abc import Iterator
from dataclasses import replace
from email.errors import HeaderParseError
from email.message import EmailMessage, MIMEPart
from typing import Any

from indexer.parse import outline
from indexer.parse.encoding import decode
from indexer.parse.html import read_html
from indexer.parse.media import MAIL
from indexer.parse.text import read_text
from pipeline.errors import InvalidInput
from pipeline.ports import Parser
from pipeline.types import Element, ElementKind, Parsed

_FIELDS = (("From", "From"), ("To", "To"), ("Cc", "Cc"), ("Date", "Date"), ("Subject", "Subject"))
MAX_DEPTH = 3
_LONGEST_PARSED = 2_000
_LONGEST_FIELD = 20_000
"""Characters of a header that are read, some 500 addresses."""
ATTACHMENT_LEVEL = 1


class MailParser:
    """Reads EML. `attachments` reads the attached files; those it refuses are only named."""

    def __init__(self, attachments: Parser) -> None:
        self._attachments = attachments

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({MAIL})

    def parse(self, data: bytes, name: str) -> Parsed:  # noqa: ARG002 - the port gives the name
        message = _message(data)
        elements = outline.outlined(self._read(message, 1))
        return Parsed(elements, _field(message, "Subject") or None)

    def _read(self, message: MIMEPart, depth: int) -> Iterator[Element]:
        body = message.get_body(preferencelist=("html", "plain"))
        attached = [part for part in _parts(message, body) if part is not body]
        names = [name for part in attached if (name := _filename(part))]
        head = [f"{label}: {value}" for label, key in _FIELDS if (value := _field(message, key))]
        if names:
            head.append(f"Attachments: {', '.join(names)}")
        yield Element("\n".join(head))
        if body is not None:
            yield from _text_of(body)
        for part in attached:
            yield from self._attachment(part, depth)

    def _attachment(self, part: MIMEPart, depth: int) -> Iterator[Element]:
        if part.get_content_type() == MAIL:
            inner = part.get_payload(0) if part.is_multipart() else None
            if isinstance(inner, MIMEPart) and depth < MAX_DEPTH:
                title = _field(inner, "Subject") or _filename(part) or "message"
                yield Element(title, ElementKind.HEADING, level=ATTACHMENT_LEVEL)
                yield from deeper(self._read(inner, depth + 1))
            return
        name = _filename(part)
        if not name:
            if part.get_content_maintype() == "text":
                yield from _text_of(part)
            return
        try:
            parsed = self._attachments.parse(_bytes(part), name)
        except InvalidInput:
            return  # a picture or a damaged file: the mail's own text names it
        yield Element(name, ElementKind.HEADING, level=ATTACHMENT_LEVEL)
        yield from deeper(parsed.elements)


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


def _message(data: bytes) -> EmailMessage:
    policy: Any = _Policy(max_line_length=None)  # lines of headers may be as long as they like
    message = email.message_from_bytes(data.lstrip(b"\r\n"), policy=policy)
    if not isinstance(message, EmailMessage):  # pragma: no cover - what the policy makes
        raise TypeError(type(message))
    return message


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


def deeper(elements: Any) -> Iterator[Element]:  # noqa: ANN401 - any iterable of elements
    """The elements of an attachment, under its name as a heading."""
    for element in elements:
        if element.kind is ElementKind.HEADING:
            yield replace(element, level=element.level + ATTACHMENT_LEVEL)
        else:
            yield element


def _text_of(part: MIMEPart) -> list[Element]:
    text = decode(_bytes(part), part.get_content_charset())
    if part.get_content_subtype() == "html":
        return read_html(text)[0]
    return read_text(text)


def _bytes(part: MIMEPart) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _filename(part: MIMEPart) -> str:
    return _readable(part.get_filename() or "")


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
