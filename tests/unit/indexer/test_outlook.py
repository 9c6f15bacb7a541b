"""A message of Outlook is read as the same mail is."""

import io
import struct
from pathlib import Path

import docx
import pytest

from indexer.parse.media import DOCX, MAIL, OUTLOOK
from indexer.parse.outlook import unpacked
from indexer.parse.parser import build_parser
from indexer.parse.unpack import unpack
from pipeline.errors import DamagedDocument, TooLarge
from tests.fixtures.ole_file import ole_file

PARSER = build_parser()


def wide(**values: str) -> dict[str, bytes]:
    return {f"__substg1.0_{key[1:]}001F": text.encode("utf-16-le") for key, text in values.items()}


def fixed(header: int, **values: int) -> dict[str, bytes]:
    body = b"".join(
        struct.pack("<IIQ", int(key[1:], 16) << 16 | 0x40, 6, value)
        for key, value in values.items()
    )
    return {"__properties_version1.0": bytes(header) + body}


def word() -> bytes:
    document = docx.Document()
    document.add_paragraph("附件里的话。")
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


# 100-nanosecond steps from 1601 to 2023-06-06 01:30 UTC.
SENT = 133_304_886_000_000_000


def test_a_message_brings_its_fields_its_text_and_its_attachments(tmp_path: Path) -> None:
    inner = {
        **wide(_0037="转发", _0C1A="王五", _5D01="w@example.org", _0E04="李四; 赵六", _1000="里面的信。"),
        **fixed(24, _0039=SENT),
        "__attach_version1.0_#00000000": {
            **wide(_3707="条款.txt"), **fixed(8), "__substg1.0_37010102": "附加条款。".encode(),
        },
    }  # fmt: skip
    logo = {"__substg1.0_37010102": b"\x89PNG\r\n\x1a\n", **wide(_3707="image001.png", _3712="x@y")}
    office = word()
    data = ole_file(
        {
            **wide(_0037="报价单", _0C1A="张三", _5D01="zhang@example.org", _0E04="李四"),
            **fixed(32, _0039=SENT, _3FDE=936),
            "__substg1.0_10130102": "<body><p>各位好：</p><p>请看附件。</p></body>".encode("gbk"),
            "__attach_version1.0_#00000000": {
                **wide(_3707="手册.docx"), **fixed(8), "__substg1.0_37010102": office,
            },
            "__attach_version1.0_#00000001": {
                **wide(_3707="x.bin"), **fixed(8), "__substg1.0_37010102": b"\x7fELF\x02\x01",
            },
            "__attach_version1.0_#00000002": {**fixed(8), "__substg1.0_3701000D": inner},
            "__attach_version1.0_#00000003": {**fixed(8), **logo},
        }
    )  # fmt: skip
    parsed = PARSER.parse(data, "a.msg")
    assert parsed.title == "报价单"
    assert [(element.text, element.heading) for element in parsed.elements] == [
        (
            "From: 张三 <zhang@example.org>\nTo: 李四\nDate: 2023-06-06 01:30:00 UTC\nSubject: 报价单\n"
            "Attachments: 手册.docx, x.bin, 转发.eml",
            (),
        ),
        ("各位好：", ()),
        ("请看附件。", ()),
    ]
    document, program, forwarded = unpack(data, "a.msg", OUTLOOK, tmp_path)
    assert (document.name, document.media_type) == ("手册.docx", DOCX)
    assert (tmp_path / document.file).read_bytes() == office
    assert program.name == "x.bin"
    assert "Programs" in program.problem
    assert (forwarded.name, forwarded.media_type) == ("转发.eml", MAIL)
    mail = (tmp_path / forwarded.file).read_bytes()
    assert [element.text for element in PARSER.parse(mail, "转发.eml").elements] == [
        "From: 王五 <w@example.org>\nTo: 李四, 赵六\nDate: Tue, 06 Jun 2023 01:30:00 +0000\nSubject: 转发\n"
        "Attachments: 条款.txt",
        "里面的信。",
    ]
    (tmp_path / "again").mkdir()
    assert unpack(data, "a.msg", OUTLOOK, tmp_path / "again") == (document, program, forwarded)
    (tmp_path / "inner").mkdir()
    [terms] = unpack(mail, "转发.eml", MAIL, tmp_path / "inner")
    assert (tmp_path / "inner" / terms.file).read_text("utf-8") == "附加条款。"


@pytest.mark.parametrize(("page", "codec"), [(936, "gbk"), (65001, "utf-8"), (0, "gbk")])
def test_texts_in_a_code_page_are_read(page: int, codec: str) -> None:
    data = ole_file(
        {
            "__substg1.0_0037001E": "关于保修期的说明".encode(codec),
            "__substg1.0_1000001E": "保修期为二十四个月。\r\n\r\n自交货之日起计算。".encode(codec),
            **fixed(32, _3FFD=page),
        }
    )
    parsed = PARSER.parse(data, "a")
    assert [element.text for element in parsed.elements] == [
        "Subject: 关于保修期的说明",
        "保修期为二十四个月。",
        "自交货之日起计算。",
    ]


# The two examples of [MS-OXRTFCP], 4.1 and 4.2.
SIMPLE = bytes.fromhex(
    "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"
)
CROSSING = bytes.fromhex("1a0000001c0000004c5a4675e2d44b51410004205758595a0d6e7d010eb0")


def test_packed_text_is_unpacked_as_published() -> None:
    assert unpacked(SIMPLE) == b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n"
    assert unpacked(CROSSING) == b"{\\rtf1 WXYZWXYZWXYZWXYZWXYZ}"
    message = {**wide(_0037="x"), **fixed(32), "__substg1.0_10090102": SIMPLE}
    texts = [element.text for element in PARSER.parse(ole_file(message), "a.msg").elements]
    assert texts == ["Subject: x", "hello world"]


def test_parts_that_overlap_are_refused() -> None:
    parts = {
        f"__attach_version1.0_#0000000{at}": {"__substg1.0_37010102": b"x" * 10_000}
        for at in range(9)
    }
    data = bytearray(ole_file({**wide(_0037="x"), **fixed(32), **parts}))
    assert PARSER.parse(bytes(data), "a.msg").title == "x"
    size = struct.pack("<Q", 10_000)
    while (at := data.find(size)) >= 0:  # each says it has all the sectors there are
        data[at : at + 8] = struct.pack("<Q", 80_000)
    with pytest.raises(DamagedDocument, match="overlap"):
        PARSER.parse(bytes(data), "a.msg")


def test_a_text_that_says_it_is_huge_is_refused() -> None:
    with pytest.raises(TooLarge, match=r"\.eml"):
        unpacked(struct.pack("<IIII", 50, 2**31, 0x75465A4C, 0) + bytes(20))
