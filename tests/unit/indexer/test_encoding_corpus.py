"""A corpus of generated files, each in the encoding of its country: all must be read as they were written.

Lengths from 20 characters up; simplified and traditional Chinese, Japanese and Western texts; full-width
and half-width forms, and Latin words among the Chinese ones. Traditional text comes in GB 18030 too.
"""

import csv
import io
from collections.abc import Iterator
from email.message import EmailMessage

import pytest

from indexer.parse.encoding import decode_raw
from indexer.parse.parser import build_parser

SIMPLIFIED = (
    "保修期为二十四个月，自交货之日起计算。退货须在十五日内提出，并附上发票。",
    "员工每年享有十二天带薪年休假，当年未休完的最多可以结转五天。病假须提交医院证明。",
    "床前明月光，疑是地上霜。举头望明月，低头思故乡。白日依山尽，黄河入海流。",
    "第三章　安全规程：１．操作前请切断电源；２．佩戴绝缘手套；３．严禁单人作业。",
    "请在 Debian 系统中运行 apt-get install，然后编辑 /etc/hosts 文件（需要 root 权限）。",
    "型号 CX-200 的额定电压为 220V，功率 1.5kW，重量约 3.2kg，工作温度 -10℃ 至 45℃。",
    "姓名：王小明　性别：男　籍贯：浙江绍兴　学历：硕士　职称：高级工程师　电话：略",
    "本院认为，被告未按合同约定履行付款义务，已构成违约，应当承担相应的法律责任。",
    "饕餮纹青铜簋，西周早期，通高三十厘米，陕西宝鸡出土，现藏于中国国家博物馆。",
    "阿莫西林胶囊：口服，一次0.5克，每6～8小时1次，一日剂量不超过4克。孕妇慎用。",
)
TRADITIONAL = (
    "保固期為二十四個月，自交貨之日起計算。退貨須在十五日內提出，並附上發票。",
    "員工每年享有十二天特別休假，當年度未休完者最多可遞延五天。病假須檢附醫院證明。",
    "臺北市政府公告：自即日起，捷運車廂內禁止飲食，違者處新臺幣一千五百元罰鍰。",
    "第三章　安全規定：１．操作前請切斷電源；２．配戴絕緣手套；３．嚴禁單獨作業。",
    "請在 Ubuntu 系統中執行 apt install，然後編輯 /etc/hosts 檔案（需要 root 權限）。",
    "型號 CX-200 的額定電壓為 110V，功率 1.5kW，重量約 3.2kg，請參閱使用手冊。",
    "香港特別行政區終審法院裁定上訴人勝訴，並判令答辯人支付全部訟費。",
    "許功蓋先生淚流滿面，珮瑜與育昇則擺出勝利的手勢，餐廳裡響起歡呼聲。",
)
JAPANESE = (
    "保証期間は納品日から二十四か月です。返品は十五日以内にご連絡ください。",
    "社員は毎年十二日の有給休暇を取得できます。未使用分は五日まで繰り越せます。",
    "東京都千代田区霞が関一丁目、代表取締役社長　山田太郎、電話番号は以下の通り。",
    "ソフトウェアの表示能力を超えた場合は、ﾊﾝｶｸ文字で出力されることがあります。",
    "USB ケーブルで PC に接続し、電源を入れてください。ランプが緑色に点灯します。",
)
KOREAN = ("보증 기간은 납품일로부터 이십사 개월입니다. 반품은 십오 일 이내에 신청하십시오.",)
WESTERN = (
    "Le café était fermé. Die Größe der Häuser überrascht – naïve señor garçon.",
    "Prix hors taxes : 1 250 €, livraison comprise à l’adresse indiquée par le client.",
    "Straße 12, 80331 München: Öffnungszeiten täglich außer sonntags von 9 bis 18 Uhr.",
)
LENGTHS = (20, 36, 200, 3000)
UTF = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")
FAMILIES = (
    (SIMPLIFIED, (*UTF, "gbk", "gb18030")),
    (TRADITIONAL, (*UTF, "big5", "gb18030")),
    (JAPANESE, (*UTF, "cp932")),
    (KOREAN, (*UTF, "cp949")),
    (WESTERN, (*UTF, "cp1252")),
)


def cut(texts: tuple[str, ...], at: int, length: int) -> str:
    joined = "\r\n".join(texts[at:] + texts[:at])
    while len(joined) < length:
        joined += "\r\n" + joined
    return joined[:length]


def corpus() -> Iterator[object]:
    for texts, encodings in FAMILIES:
        for at in range(len(texts)):
            for length in LENGTHS:
                for encoding in encodings:
                    name = f"{texts[at][:4]}-{length}-{encoding}"
                    yield pytest.param(cut(texts, at, length), encoding, id=name)


CASES = list(corpus())


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(CASES) >= 200


@pytest.mark.parametrize(("text", "encoding"), CASES)
def test_every_text_is_read_as_it_was_written(text: str, encoding: str) -> None:
    assert decode_raw(text.encode(encoding)) == text


PARSER = build_parser()


def plain(texts: tuple[str, ...]) -> str:
    return "\r\n\r\n".join(texts)


def page(texts: tuple[str, ...]) -> str:
    return "<html><body>" + "\n".join(f"<p>{text}</p>" for text in texts) + "</body></html>"


def table(texts: tuple[str, ...]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([("no", "text"), *enumerate(texts, start=1)])
    return buffer.getvalue()


def mail(texts: tuple[str, ...], encoding: str) -> bytes:
    """A mail that says nothing of its charset, as old programs send them."""
    message = EmailMessage()
    message["Subject"] = "x"
    message.set_content("body")
    body = plain(texts).encode(encoding)
    head = message.as_bytes().split(b"\n\n")[0].replace(b'; charset="utf-8"', b"")
    return head.replace(b"7bit", b"8bit") + b"\n\n" + body


@pytest.mark.parametrize("make", [plain, page, table, mail])
@pytest.mark.parametrize(("texts", "encodings"), FAMILIES)
def test_every_format_reads_every_encoding(
    make: object, texts: tuple[str, ...], encodings: tuple[str, ...]
) -> None:
    name = {plain: "a.txt", page: "a.html", table: "a.csv", mail: "a.eml"}[make]
    for encoding in encodings:
        if make is mail and encoding.startswith("utf-16"):
            continue  # bytes of zero are no mail
        data = mail(texts, encoding) if make is mail else make(texts).encode(encoding)  # type: ignore[operator]
        read = "\n".join(element.text for element in PARSER.parse(data, name).elements)
        at = 0
        for text in texts:
            at = read.index(text, at) + len(text)
