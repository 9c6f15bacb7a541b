"""What is attached to a mail, and what only decorates it."""

from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.parse.mail import DECORATION_BYTES, Part, written
from indexer.parse.media import MAIL, sniff
from indexer.parse.parser import build_parser
from indexer.parse.unpack import Member, unpack

PARSER = build_parser()
PNG = b"\x89PNG\r\n\x1a\n"


def members(data: bytes, into: Path) -> tuple[Member, ...]:
    into.mkdir(exist_ok=True)
    return unpack(data, "a.eml", MAIL, into)


def head(data: bytes) -> str:
    return PARSER.parse(data, "a.eml").elements[0].text


def letter(subject: str, body: str) -> EmailMessage:
    message = EmailMessage()
    message["Subject"], message["From"] = subject, "a@example.org"
    message.set_content(body)
    return message


def picture(message: EmailMessage, size: int, **how: str) -> None:
    content = PNG.ljust(size, b"x")
    message.add_attachment(content, maintype="image", subtype="png", **how)


def test_small_pictures_of_the_body_are_decoration_and_all_others_are_documents(
    tmp_path: Path,
) -> None:
    message = letter("x", "see below")
    message.add_alternative('<p>see <img src="cid:logo@x"></p>', subtype="html")
    picture(message, 2000, filename="shown.png", cid="<logo@x>")
    picture(message, 2000, filename="signature.png", cid="<else@x>", disposition="inline")
    picture(message, 2000, filename="inline.png", disposition="inline")
    picture(message, DECORATION_BYTES, filename="screenshot.png", cid="<logo@x>")
    picture(message, 2000, filename="sent.png")
    message.add_attachment(b"sig", maintype="application", subtype="pkcs7-signature", filename="smime.p7s")  # fmt: skip
    data = message.as_bytes()
    assert [m.name for m in members(data, tmp_path)] == ["screenshot.png", "sent.png"]
    assert head(data).endswith("Attachments: screenshot.png, sent.png")


def test_a_mail_inside_a_mail_is_one_of_its_documents(tmp_path: Path) -> None:
    message = letter("outer", "the outer body")
    inner = letter("关于/付款", "the inner body")
    inner.add_attachment(b"one;two", maintype="text", subtype="csv", filename="表.csv")
    message.add_attachment(inner)
    data = message.as_bytes()
    assert "inner body" not in "".join(e.text for e in PARSER.parse(data, "a.eml").elements)
    [found] = members(data, tmp_path)
    assert (found.name, found.media_type) == ("关于_付款.eml", MAIL)
    mail = (tmp_path / found.file).read_bytes()
    assert [e.text for e in PARSER.parse(mail, "b.eml").elements][1] == "the inner body"
    assert [m.name for m in members(mail, tmp_path / "b")] == ["表.csv"]
    assert members(data, tmp_path / "c") == (found,)


def test_names_in_raw_gbk_are_decoded(tmp_path: Path) -> None:
    data = (
        b"Subject: x\nFrom: a@b\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
        b"--b\nContent-Type: text/plain\n\nbody\n--b\nContent-Type: application/octet-stream\n"
        b'Content-Disposition: attachment; filename="' + "合同说明.txt".encode("gbk") + b'"\n\n'
        b"terms\n--b--\n"
    )
    assert [m.name for m in members(data, tmp_path)] == ["合同说明.txt"]


def test_a_part_without_a_name_gets_one_by_its_kind(tmp_path: Path) -> None:
    message = letter("x", "y")
    message.add_attachment(b"%PDF-1.4 ...", maintype="application", subtype="pdf")
    assert [m.name for m in members(message.as_bytes(), tmp_path)] == ["attachment 1.pdf"]


def test_a_mail_without_attachments_has_no_members(tmp_path: Path) -> None:
    assert members(letter("x", "y").as_bytes(), tmp_path) == ()


@settings(deadline=None, max_examples=20)
@given(st.text(max_size=30), st.lists(st.tuples(st.text(min_size=1, max_size=20), st.binary())))
def test_a_mail_that_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, subject: str, parts: list[tuple[str, bytes]]
) -> None:
    plain = " ".join(subject.split()).replace("\x00", "")
    fields = [
        ("From", "张三 <z@example.org>"),
        ("Subject", "s" + "".join(filter(str.isalnum, plain))),
    ]
    body = Part("", "正文。".encode(), "text/plain; charset=utf-8")
    data = written(fields, [body, *(Part(name, b"text " + content) for name, content in parts)])
    assert sniff(data, "a.eml") == MAIL
    assert PARSER.parse(data, "a.eml").elements[-1].text == "正文。"
    into = tmp_path_factory.mktemp("into")
    kept = [m for m in members(data, into) if m.file]
    assert len(kept) <= len(parts)
    assert all((into / m.file).read_bytes().startswith(b"text ") for m in kept)
