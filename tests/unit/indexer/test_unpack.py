"""Members of archives: their names, their bytes, and what is refused."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import random
import struct
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import symlink_in_zip, tarred, with_unicode_path, zipped

from indexer.parse.archives import Limits
from indexer.parse.media import GZIP, ZIP, sniff
from indexer.parse.names import clean_name, decode_names
from indexer.parse.parser import build_parser
from indexer.parse.pool import ParserPool
from indexer.parse.unpack import Member, listing, looked_at, unpack
from pipeline.errors import DamagedDocument, RagError, TooLarge

FILES = {"读我.txt": b"one", "手册/第一章.txt": "第一章".encode(), "手册/图/a.txt": b"three"}
NOISE = {"__MACOSX/._读我.txt": b"x", ".DS_Store": b"x", "手册/Thumbs.db": b"x", "~$a.docx": b"x"}
TARS = ("w", "w:gz", "w:bz2", "w:xz")


def opened(data: bytes, into: Path, name: str = "a.zip", **limits: int) -> tuple[Member, ...]:
    into.mkdir(exist_ok=True)
    return unpack(data, name, sniff(data, name), into, Limits(**limits))


def contents(members: tuple[Member, ...], into: Path) -> dict[str, bytes]:
    found = {m.name: (into / m.file).read_bytes() for m in members if m.file}
    for member in members:
        if member.file:
            assert member.sha256 == hashlib.sha256(found[member.name]).hexdigest()
            assert member.size == len(found[member.name])
    return found


def problems(members: tuple[Member, ...]) -> dict[str, str]:
    return {m.name: m.problem for m in members if m.problem}


@pytest.mark.parametrize("codec", [None, "gb18030", "utf-8"])
def test_a_zip_gives_its_files_under_their_paths_and_no_rubbish(
    tmp_path: Path, codec: str | None
) -> None:
    members = opened(zipped({**FILES, "空/": b"", **NOISE}, codec=codec), tmp_path)
    assert contents(members, tmp_path) == FILES
    assert problems(members) == {}


@pytest.mark.parametrize("mode", TARS)
def test_a_tar_gives_its_files_however_it_is_packed(tmp_path: Path, mode: str) -> None:
    members = opened(tarred({**FILES, **NOISE}, mode), tmp_path, "a.bin")
    assert contents(members, tmp_path) == FILES


def test_names_of_an_old_tar_are_decoded(tmp_path: Path) -> None:
    assert contents(opened(tarred(FILES, encoding="gbk"), tmp_path, "a.tar"), tmp_path) == FILES


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_packed_file_is_one_member_with_the_name_without_its_ending(
    tmp_path: Path, pack: object
) -> None:
    data = pack(b"a;b\n1;2\n")
    ending = {b"\x1f": ".gz", b"B": ".bz2", b"\xfd": ".xz"}[data[:1]]
    members = opened(data, tmp_path, f"x/报表.csv{ending}")
    assert contents(members, tmp_path) == {"报表.csv": b"a;b\n1;2\n"}


def test_two_xz_streams_are_one_file(tmp_path: Path) -> None:
    data = lzma.compress(b"one ") + bytes(8) + lzma.compress(b"two")
    assert contents(opened(data, tmp_path, "a.txt.xz"), tmp_path) == {"a.txt": b"one two"}


NAMES = {
    "gbk": ["说明.txt", "图纸/一层.pdf", "员工手册.docx", "新建文本文档.txt", "通知", "报价单2024.xls"],
    "big5": ["說明.txt", "合約書.pdf", "員工手冊.docx", "新增資料夾/會議記錄.doc"],
    "cp932": ["説明書.txt", "請求書.pdf", "新しいフォルダー/会議.doc", "マニュアル.pdf"],
    "cp437": ["Übersicht.txt", "résumé.pdf", "Größe.doc", "año.txt"],
    "cp949": ["설명서.txt", "계약서.pdf"],
    "utf-8": ["说明.txt", "résumé.pdf", "設定.txt"],
}  # fmt: skip


@pytest.mark.parametrize("codec", NAMES)
def test_unmarked_names_are_decoded_together(codec: str) -> None:
    assert decode_names([name.encode(codec) for name in NAMES[codec]]) == NAMES[codec]


@pytest.mark.parametrize("name", NAMES["gbk"])
def test_one_chinese_name_of_windows_is_enough(name: str) -> None:
    assert decode_names([b"a.txt", name.encode("gbk")]) == ["a.txt", name]


WORDS = {
    "gbk": "采购 合同 报价单 会议纪要 员工手册 年度总结 财务报表 技术方案 发票 简历 安全规定 通知 图纸 考勤表",
    "utf-8": "采购 résumé Übersicht 請求書 マニュアル 계약서 Жук Ελλάδα",
    "cp437": "Übersicht Größe Müller Prüfbericht résumé café français élève año España Ångström Straße",
    "big5": "採購 合約 報價單 會議記錄 員工手冊 財務報表 技術方案 發票 履歷表 安全規定 掃描檔 出勤表",
    "cp932": "契約書 見積書 請求書 議事録 報告書 マニュアル テスト結果 写真 会議 売上データ 就業規則",
}


@pytest.mark.parametrize("codec", WORDS)
def test_names_of_fifty_archives_are_all_right(codec: str) -> None:
    dice = random.Random(5)
    for _ in range(50):
        words = dice.sample(WORDS[codec].split(), 5)
        names = [f"{word}_{dice.randint(1, 12)}.docx" for word in words]
        assert decode_names([name.encode(codec) for name in names]) == names


def test_the_extra_field_of_info_zip_names_the_file(tmp_path: Path) -> None:
    data = with_unicode_path(b"?????.txt", "Жук 甲虫.txt", b"x")
    assert contents(opened(data, tmp_path), tmp_path) == {"Жук 甲虫.txt": b"x"}


@settings(deadline=None, max_examples=50)
@given(st.text() | st.lists(st.sampled_from(["..", ".", "a", "/", "\\", "C:"])).map("/".join))
def test_no_name_climbs(name: str) -> None:
    parts = clean_name(name).split("/")
    assert not {"..", "."} & set(parts)
    assert not Path(clean_name(name)).is_absolute()


def test_nothing_is_written_under_a_name_of_the_archive(tmp_path: Path) -> None:
    data = zipped({"../../climbed.txt": b"x", "/etc/abs.txt": b"y", "..\\w.txt": b"z"})
    into = tmp_path / "a" / "b" / "c"
    into.mkdir(parents=True)
    members = opened(data, into)
    assert set(contents(members, into)) == {"climbed.txt", "etc/abs.txt", "w.txt"}
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent for path in everything} == {into}
    assert all(path.name.isdigit() for path in everything)


def test_links_and_devices_are_not_followed(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind in (("soft", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("dev", tarfile.CHRTYPE)):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    members = opened(buffer.getvalue(), tmp_path, "a.tar")
    assert [(m.name, m.file) for m in members] == [("soft", None), ("hard", None), ("dev", None)]
    assert "link" in problems(opened(symlink_in_zip("l", "/etc/passwd"), tmp_path))["l"]


def test_two_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    data = zipped({"a.txt": b"one", "b.txt": b"two"}).replace(b"b.txt", b"a.txt")
    members = opened(data, tmp_path)
    assert contents(members, tmp_path) == {"a.txt": b"one", "a (2).txt": b"two"}


def test_an_encrypted_file_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    data = bytearray(zipped({"secret.txt": b"x" * 50, "open.txt": b"y"}))
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + flags] |= 1
    members = opened(bytes(data), tmp_path)
    assert contents(members, tmp_path) == {"open.txt": b"y"}
    assert "encrypted" in problems(members)["secret.txt"]


def test_a_damaged_file_of_a_zip_fails_alone(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(5000)
    data = bytearray(zipped({"bad.txt": noise, "good.txt": b"fine"}))
    data[2000] ^= 0xFF
    members = opened(bytes(data), tmp_path)
    assert contents(members, tmp_path) == {"good.txt": b"fine"}
    assert "damaged" in problems(members)["bad.txt"]


def test_files_of_kinds_that_are_not_read_say_why(tmp_path: Path) -> None:
    members = opened(zipped({"a.gif": b"GIF89a" + bytes(9), "b.txt": b"", "c.txt": b"c"}), tmp_path)
    assert contents(members, tmp_path) == {"c.txt": b"c"}
    assert "Save it as PDF" in problems(members)["a.gif"]
    assert "empty" in problems(members)["b.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3"]


@pytest.mark.parametrize("mode", TARS)
def test_a_tar_that_is_cut_off_keeps_what_came_before(tmp_path: Path, mode: str) -> None:
    noise = random.Random(2).randbytes(2_500_000)
    data = tarred({"a.txt": b"first", "b.bin": noise, "c.txt": b"last"}, mode)
    members = opened(data[: len(data) // 2], tmp_path, "a.tar")
    assert contents(members, tmp_path) == {"a.txt": b"first"}
    assert any("damaged" in problem for problem in problems(members).values())


def test_a_tar_with_a_broken_header_says_that_something_is_missing(tmp_path: Path) -> None:
    data = bytearray(tarred({"a.txt": b"first", "b.txt": b"second", "c.txt": b"third"}))
    data[1024:1100] = b"\xff" * 76
    members = opened(bytes(data), tmp_path, "a.tar")
    assert contents(members, tmp_path) == {"a.txt": b"first"}
    assert "could not be read" in members[-1].problem


# Bombs.


def test_a_zip_bomb_stops_while_it_is_read(tmp_path: Path) -> None:
    data = zipped({"a.txt": b"fine", "bomb.txt": bytes(60_000_000), "late.txt": b"late"})
    members = opened(data, tmp_path)
    assert contents(members, tmp_path) == {"a.txt": b"fine"}
    assert "unpacks to more than" in problems(members)["bomb.txt"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 100


def test_a_size_that_is_declared_too_small_deceives_nobody(tmp_path: Path) -> None:
    data = bytearray(zipped({"bomb.txt": bytes(60_000_000)}))
    for mark, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.index(mark) + at
        data[place : place + 4] = struct.pack("<I", 10)
    with_problem = problems(opened(bytes(data), tmp_path))
    assert list(with_problem) == ["bomb.txt"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 100


@pytest.mark.parametrize("mode", TARS[1:])
def test_a_tar_bomb_stops_while_it_is_read(tmp_path: Path, mode: str) -> None:
    data = tarred({"a.txt": b"fine", "bomb": bytes(60_000_000)}, mode)
    members = opened(data, tmp_path, "a.tgz")
    assert contents(members, tmp_path) == {"a.txt": b"fine"}
    assert any("unpacks to more" in problem for problem in problems(members).values())


def test_a_packed_bomb_alone_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match=r"bomb\.gz"):
        opened(gzip.compress(bytes(60_000_000)), tmp_path, "bomb.gz")


def test_a_sparse_file_is_counted_by_what_it_says(tmp_path: Path) -> None:
    header = tarfile.TarInfo("sparse")
    header.size = 0
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[156:157] = b"S"
    block[386:398] = b"%011o\0" % (2**33)
    block[398:410] = b"%011o\0" % 0
    block[483:495] = b"%011o\0" % (2**33)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    members = opened(bytes(block) + bytes(1024), tmp_path, "a.tar", member=10**6)
    assert [(m.name, m.file) for m in members] == [("sparse", None)]


def test_limits_of_number_and_size_name_what_is_left_out(tmp_path: Path) -> None:
    data = zipped({f"{n}.txt": b"x" * n for n in range(1, 9)})
    members = opened(data, tmp_path, members=3)
    assert [m.name for m in members] == ["1.txt", "2.txt", "3.txt", ""]
    assert "more than 3 files" in members[-1].problem
    members = opened(data, tmp_path, member=6)
    assert set(problems(members)) == {"7.txt", "8.txt"}
    assert all("larger than" in problem for problem in problems(members).values())


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(("zip", *TARS)), st.integers(0, 2**31), st.integers(1, 60))
def test_a_mutated_archive_ends_in_members_or_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int, flips: int
) -> None:
    data = bytearray(zipped(FILES) if kind == "zip" else tarred(FILES, kind))
    dice = random.Random(seed)
    for _ in range(flips):
        data[dice.randrange(len(data))] = dice.randrange(256)
    into = tmp_path_factory.mktemp("into")
    with suppress(RagError):
        members = opened(bytes(data), into, "a.bin")
        assert all(bool(m.file) != bool(m.problem) for m in members)


# The text of an archive.


def test_the_text_of_an_archive_is_a_line_a_file() -> None:
    parsed = listing([("a/b.pdf", None), ("c.zip", "it is encrypted"), ("", "it is cut off")])
    assert [element.text for element in parsed.elements] == [
        "a/b.pdf",
        "c.zip – not read: it is encrypted",
        "it is cut off",
    ]


@pytest.mark.parametrize("data", [zipped(FILES, codec="gbk"), tarred(FILES, "w:xz")])
def test_the_parser_names_what_is_inside(data: bytes) -> None:
    assert [e.text for e in build_parser().parse(data, "a").elements] == list(FILES)


def test_an_archive_of_nothing_that_can_be_read_says_so(tmp_path: Path) -> None:
    cut = gzip.compress(b"")[:12]
    with pytest.raises(DamagedDocument, match=r"“a\.gz” cannot be unpacked"):
        opened(cut, tmp_path, "a.gz")


# What a child process unpacks.


@pytest.fixture(scope="module")
def pool() -> Iterator[ParserPool]:
    made = ParserPool(children=1)
    yield made
    made.close()


def test_a_child_unpacks_as_this_process_does(tmp_path: Path, pool: ParserPool) -> None:
    (tmp_path / "child").mkdir()
    data = zipped({**FILES, "a.gif": b"GIF89a" + bytes(9)}, codec="gbk")
    members = pool.unpack(data, "a.zip", ZIP, tmp_path / "child", Limits())
    assert members == opened(data, tmp_path / "here")
    assert contents(members, tmp_path / "child") == FILES
    with pytest.raises(TooLarge, match="unpacks to"):
        pool.unpack(gzip.compress(bytes(60_000_000)), "b.gz", GZIP, tmp_path / "child", Limits())


def test_what_a_child_says_of_its_files_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(b"other bytes")
    (tmp_path / "2").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "3")
    lie = Member("../a.txt", None, "1", "0" * 64, 3, "text/plain")
    [seen] = looked_at([lie], tmp_path)
    assert (seen.name, seen.size) == ("a.txt", 11)
    assert seen.sha256 == hashlib.sha256(b"other bytes").hexdigest()
    for wrong in (
        replace(lie, file="2"),
        replace(lie, file="3"),
        replace(lie, file="4"),
        replace(lie, file="../../etc/passwd"),
        replace(lie, media_type="text/evil"),
        Member("a"),
    ):
        with pytest.raises(ValueError, match=r".+"):
            looked_at([wrong], tmp_path)
