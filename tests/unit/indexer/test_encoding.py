"""Bytes are read in the encoding that they were written in."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.parse.encoding import clean, decode, decode_raw, detect
from pipeline.errors import DamagedDocument

DATA = Path("../shared/data")
SIMPLIFIED = "保修期为二十四个月，自交货之日起计算。退货须在十五日内提出，并附上发票。"
TRADITIONAL = "保固期為二十四個月，自交貨之日起計算。退貨須在十五日內提出，並附上發票。"
JAPANESE = "保証期間は納品日から二十四か月です。返品は十五日以内にご連絡ください。"
WESTERN = "Le café était fermé. Die Größe der Häuser überrascht – naïve señor garçon."


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (SIMPLIFIED, "utf-8"),
        (SIMPLIFIED, "utf-8-sig"),
        (SIMPLIFIED, "gb18030"),
        (SIMPLIFIED, "gbk"),
        (SIMPLIFIED, "utf-16"),
        (SIMPLIFIED, "utf-16-le"),
        (SIMPLIFIED, "utf-16-be"),
        (SIMPLIFIED, "utf-32"),
        (TRADITIONAL, "big5"),
        (TRADITIONAL, "gb18030"),
        (TRADITIONAL, "utf-16-be"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "utf-16-le"),
        (WESTERN, "cp1252"),
        (WESTERN, "utf-16-le"),
        ("Plain ASCII, nothing else.", "ascii"),
        ("第 1 章 Overview of the API\n接口说明 see README.md", "gb18030"),
    ],
)
def test_a_text_is_read_as_it_was_written(text: str, encoding: str) -> None:
    assert decode_raw(text.encode(encoding)) == text


@pytest.mark.parametrize("text", ["退货政策", "合同期限", "公司的电话", "用户手册"])
def test_four_chinese_characters_in_gbk_are_enough(text: str) -> None:
    assert decode_raw(text.encode("gbk")) == text


def test_the_charset_of_a_page_or_a_mail_decides_where_it_holds() -> None:
    page = '<html><head><meta charset="big5"></head><body>中</body></html>'
    assert decode_raw(page.encode("big5")) == page
    assert decode_raw("中".encode("shift_jis"), "shift_jis") == "中"
    assert decode_raw("日本語".encode("iso2022_jp"), "iso-2022-jp") == "日本語"


def test_utf8_is_believed_over_an_old_label_and_a_wrong_label_is_ignored() -> None:
    page = (
        f'<meta http-equiv="Content-Type" content="text/html; charset=gb2312"><p>{SIMPLIFIED}</p>'
    )
    assert decode_raw(page.encode()) == page
    assert decode_raw(SIMPLIFIED.encode("gb18030"), "utf-8") == SIMPLIFIED
    assert decode_raw(SIMPLIFIED.encode("gb18030"), "no-such-charset") == SIMPLIFIED
    assert decode_raw(SIMPLIFIED.encode("gb18030"), "zlib") == SIMPLIFIED


def test_newlines_become_one_kind_and_control_characters_go() -> None:
    assert clean("a\r\nb\rc\u2028d\x0ce") == "a\nb\nc\nd\ne"
    assert clean("a\x00b\x07\tc\ufffe\uffff\ufeff\u00ad\x85d") == "ab\tc\nd"
    assert clean("ｆｕｌｌ　ｗｉｄｔｈ，繁體") == "ｆｕｌｌ　ｗｉｄｔｈ，繁體"


@given(st.text())
@settings(deadline=None)
def test_cleaning_is_idempotent_and_leaves_utf8(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert once.encode("utf-8").decode() == once


@given(st.text(alphabet=st.characters(codec="gb18030", exclude_categories=["Cc", "Co", "Cn"])))
@settings(deadline=None)
def test_a_utf8_text_with_a_mark_is_never_changed(text: str) -> None:
    assert decode_raw(b"\xef\xbb\xbf" + text.encode("utf-8")) == text


def test_noise_is_refused_with_a_sentence() -> None:
    noise = bytes((n * 197 + n // 7 * 31) % 256 for n in range(20_000))
    with pytest.raises(DamagedDocument, match="not text"):
        decode(noise)


def test_a_stray_bad_byte_does_not_lose_the_text() -> None:
    assert "保修期" in decode(SIMPLIFIED.encode()[:-1] + b"\xff\xfe end")
    assert detect("汉字".encode("gbk") * 5) == "gb18030"


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared measuring data is not here")
@pytest.mark.parametrize("name", ["xquad-zh", "xquad-en", "cmrc2018-trial"])
def test_every_text_file_of_the_shared_sets_decodes_exactly(name: str) -> None:
    folder = DATA / name
    listed = (folder / "corpus.jsonl").read_text("utf-8").splitlines()
    corpus = {row["id"]: row for row in map(json.loads, listed)}
    checked = 0
    for line in (folder / "documents.tsv").read_text("utf-8").splitlines():
        document, file, encoding = (*line.split("\t"), "")[:3]
        if not encoding:
            continue
        data = (folder / "documents" / file).read_bytes()
        assert decode_raw(data) == data.decode(encoding)
        if file.endswith(".txt"):
            assert clean(corpus[document]["text"]) in decode(data)
        checked += 1
    assert checked > 50
