"""Questions about cells of tables: a part of bench/quality.py. The tables are written here, in five formats."""

import csv
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.client import Api
from bench.sets import DATA
from pipeline.evaluate import contains

_SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗"
_NAMES = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平"
_GOODS = "不锈钢螺栓 工业润滑油 防护手套 安全帽 电动扳手 液压油管 轴承套件 激光测距仪 焊接面罩 空气滤芯".split()
_DEPARTMENTS = "财务部 市场部 研发中心 人事部 采购部".split()
_POSTS = "主管 专员 工程师 助理".split()
_COLOURS = "Northern Silver Amber Crimson Polar Gentle".split()
_BIRDS = "Heron Falcon Tern Petrel Gannet Plover Osprey Curlew".split()
_MASTERS = "Olsen Reid Vane Marsh Holt Brandt Lowe".split()
_TIERS = "Starter Basic Team Business Premium Enterprise Campus Charity Reseller Developer".split()
_CITIES = (
    "北京 上海 广州 深圳 杭州 成都 西安 武汉 南京 苏州 长沙 青岛 大连 厦门 昆明 哈尔滨".split()
)
_PORTS = "Aberdeen Bergen Cuxhaven Dundee Esbjerg Falmouth Gdansk Harwich Immingham Kiel Lerwick Malmo".split()


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table, the file that it becomes, and how one asks about a cell of it (`{row}`, `{column}`).

    `key` is the column that names rows. `unknown` are names of rows that are not there, `elsewhere` a question about
    something else.
    """

    name: str
    rows: Sequence[Sequence[str]]
    asks: str
    unknown: Sequence[str]
    elsewhere: str
    key: int = 0


def sheets() -> list[Sheet]:
    """The tables, the same ones every time; the first row is the header."""
    dice = random.Random(4)
    names = [dice.choice(_SURNAMES) + dice.choice(_NAMES) + dice.choice(_NAMES) for _ in range(70)]
    staff = [["姓名", "工号", "部门", "岗位", "入职日期", "分机号"]]
    for number, person in enumerate(dict.fromkeys(names)):
        since = f"20{dice.randint(10, 24)}-{dice.randint(1, 12):02}-{dice.randint(1, 28):02}"
        place = [dice.choice(_DEPARTMENTS), dice.choice(_POSTS)]
        extension = str(dice.randint(6000, 8999))
        staff.append([person, f"E{1000 + number * 7}", *place, since, extension])
    goods = [["商品名称", "型号", "单价（元）", "库存数量", "供应商所在地"]]
    for good in _GOODS:
        for model in "ABCD":
            price = f"{dice.randint(5, 900)}.{dice.randint(10, 99)}"
            kind = f"{model}-{dice.randint(100, 999)}"
            stock = str(dice.randint(11, 4000))
            goods.append([f"{good}{model}型", kind, price, stock, dice.choice(_CITIES)])
    limits = [["城市", "住宿上限", "每日餐费", "市内交通"]]
    for city in _CITIES:
        room, food, ride = dice.randint(30, 90) * 10, dice.randint(60, 180), dice.randint(20, 90)
        limits.append([city, f"{room}元", f"{food}元", f"{ride}元"])
    ships = [["Vessel", "Home port", "Year built", "Gross tonnage", "Crew", "Master"]]
    for number in range(48):
        name = f"{dice.choice(_COLOURS)} {dice.choice(_BIRDS)} {number + 1}"
        tons = f"{dice.randint(1, 48)},{dice.randint(100, 999)}"
        built, crew = str(dice.randint(1961, 2023)), str(dice.randint(6, 41))
        master = f"{dice.choice('ABCDEF')}. {dice.choice(_MASTERS)}"
        ships.append([name, dice.choice(_PORTS), built, tons, crew, master])
    rates = [["Plan", "Monthly fee", "Storage", "Support response", "Users included"]]
    for tier in _TIERS:
        fee, storage = f"${dice.randint(5, 900)}", f"{dice.randint(2, 90) * 10} GB"
        rates.append(
            [tier, fee, storage, f"{dice.randint(1, 72)} hours", str(dice.randint(1, 500))]
        )
    file = DATA / "documents" / "debian-releases.csv"
    releases = list(csv.reader(io.StringIO(file.read_text("utf-8"))))
    return [
        Sheet(
            "员工通讯录.xlsx",
            staff,
            "{row}的{column}是什么？",
            ("欧阳修", "司马光", "诸葛亮", "慕容雪"),
            "公司年会在哪里举行？",
        ),
        Sheet(
            "备件价格.docx",
            goods,
            "{row}的{column}是多少？",
            ("柴油发电机A型", "空调外机B型", "办公桌C型", "打印机D型"),
            "今年的销售额是多少？",
        ),
        Sheet(
            "差旅标准.html",
            limits,
            "去{row}出差，{column}是多少？",
            ("拉萨", "三亚", "东京", "银川"),
            "谁来审批请假？",
        ),
        Sheet(
            "vessels.csv",
            ships,
            "What is the {column} of the {row}?",
            ("Titanic", "Golden Hind", "Cutty Sark", "Queen Mary"),
            "Who painted the ceiling?",
        ),
        Sheet(
            "plans.md",
            rates,
            "What is the {column} of the {row} plan?",
            ("Galaxy", "Silver", "Orbit", "Nonprofit"),
            "How is bread baked?",
        ),
        Sheet(
            "debian-releases.csv",
            releases,
            "What is the {column} date of Debian {row}?",
            ("Mickey", "Ubuntu", "Donald", "Pluto"),
            "Who mends the bicycles?",
            1,
        ),
    ]


def written(sheet: Sheet) -> bytes:
    """The file of a table, in the format that its name says."""
    rows, made = sheet.rows, io.BytesIO()
    match Path(sheet.name).suffix:
        case ".xlsx":
            import openpyxl

            book = openpyxl.Workbook()
            for row in rows:
                book.active.append(list(row))
            book.save(made)
        case ".docx":
            import docx

            document = docx.Document()
            table = document.add_table(len(rows), len(rows[0]))
            for line, row in zip(table.rows, rows, strict=True):
                for cell, text in zip(line.cells, row, strict=True):
                    cell.text = text
            document.save(made)
        case ".html":
            lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
            made.write(f"<table><tr>{'</tr><tr>'.join(lines)}</tr></table>".encode())
        case ".md":
            lines = [f"| {' | '.join(row)} |" for row in rows]
            made.write("\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]).encode())
        case _:
            lined = io.StringIO()
            csv.writer(lined).writerows(rows)
            made.write(lined.getvalue().encode())
    return made.getvalue()


async def measure_tables(api: Api, folder: Path) -> list[str]:
    """The right cell in the answer and its row cited, over all tables in one collection."""
    await api.create("tables")
    made = sheets()
    for sheet in made:
        (folder / sheet.name).write_bytes(written(sheet))
    await api.upload("tables", [folder / sheet.name for sheet in made])
    print(
        "\n| table | right passage first | row cited | value in the answer | declined wrongly "
        "| nothing to find, declined |"
    )
    print("|---|---|---|---|---|---|")
    totals = Counts()
    for sheet in made:
        counts = await _asked(api, sheet)
        totals = totals + counts
        print(_line(sheet.name, counts))
    print(_line("all", totals))
    return []


@dataclass(frozen=True, slots=True)
class Counts:
    """Questions, and how many of them came out how."""

    asked: int = 0
    first: int = 0
    cited: int = 0
    right: int = 0
    lost: int = 0
    unknown: int = 0
    declined: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        names = self.__slots__
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in names})


def _line(name: str, counts: Counts) -> str:
    of = f"of {counts.asked}"
    cells = [
        f"{counts.first} {of}",
        f"{counts.cited} {of}",
        f"{counts.right} {of}",
        f"{counts.lost}",
        f"{counts.declined} of {counts.unknown}",
    ]
    return f"| {name} | {' | '.join(cells)} |"


async def _asked(api: Api, sheet: Sheet) -> Counts:
    header, *body = sheet.rows
    counts = Counts()
    choices = [at for at in range(len(header)) if at != sheet.key and (at >= 3 or sheet.key == 0)]
    picked = [row for row in body if len(row) >= 4][:: max(1, len(body) // 12)][:12]
    for number, row in enumerate(picked):
        here = [at for at in choices if at < len(row)]
        column = here[number % len(here)]
        name, value = row[sheet.key], row[column]
        question = sheet.asks.format(row=name, column=header[column])
        hits = await api.search(question, "tables")
        answer: dict[str, Any] = await api.ask(question, "tables")
        quotes = [citation["quote"] for citation in answer["citations"]]
        counts = counts + Counts(
            asked=1,
            first=bool(hits) and name in hits[0]["text"],
            cited=any(name in quote and value in quote for quote in quotes),
            right=contains(answer["answer"], [value]),
            lost=answer["refused"],
        )
    nothing = [
        sheet.asks.format(row=name, column=header[choices[number % len(choices)]])
        for number, name in enumerate(sheet.unknown)
    ]
    for question in [*nothing, sheet.elsewhere]:
        answer = await api.ask(question, "tables")
        counts = counts + Counts(unknown=1, declined=answer["refused"])
    return counts
