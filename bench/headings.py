"""Headings and a scan, found on their pages: parts of bench/quality.py.

Each of the 344 outline entries of the PDFs in ../shared/data/documents is searched for among all good documents there.
It is found when one of the first five hits is in its file and on its page or the next (that folder's README).
"""

import asyncio
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.client import Api
from bench.documents import Wanted, right, upload_documents
from bench.sets import DATA

FIRST = 5
FLOOR_HEADINGS = 0.90
MANUAL, SCAN = "Debian新维护者手册.pdf", "scan-maint-guide-zh.pdf"
_SCANNED_FROM = 9
"""The scan's three pages are pages 9 to 11 of the manual, as pictures."""

# Questions about the scan alone, the page of it that answers, and words of the answer.
SCANNED = (
    Wanted("哪个 GNU Fortran 95 编译器可以编译用 Fortran 编写的程序？", {SCAN: 1}, "gfortran"),
    Wanted("哪个工具能以普通用户来模拟 root 用户环境？", {SCAN: 1}, "fakeroot"),
    Wanted("在开发环境中，最重要的软件包是什么？", {SCAN: 1}, "build-essential"),
    Wanted("哪些文档是 GNU 项目中的文章？", {SCAN: 2}, "gnu-standards"),
    Wanted(
        "哪份文档描述了打包所需的包含技术细节在内的全部详细信息？",
        {SCAN: 2},
        "developers-reference",
    ),
    Wanted("学习打包细节的好方法是什么？", {SCAN: 3}, "测试软件包"),
    Wanted("哪个邮件列表是新手专区？", {SCAN: 3}, "debian-mentors"),
    Wanted("犯了严重的错误会被谁进行邮件轰炸？", {SCAN: 3}, "Debian"),
)


@dataclass(frozen=True, slots=True)
class Titled:
    """An outline entry: its words, its file, and its page counted from 1."""

    text: str
    file: str
    page: int


def load_headings() -> list[Titled]:
    """The outline entries in their order."""
    lines = (DATA / "documents" / "headings.jsonl").read_text("utf-8").splitlines()
    rows = map(json.loads, lines)
    return [Titled(row["text"], row["file"], row["page"]) for row in rows]


def rank(hits: Sequence[Mapping[str, Any]], heading: Titled) -> int | None:
    """The rank, from 1, of the first hit in the heading's file on its page or the next; None without one."""
    near = (heading.page, heading.page + 1)
    places = enumerate(((hit["filename"], hit["page"]) for hit in hits), start=1)
    return next((at for at, (file, page) in places if file == heading.file and page in near), None)


async def measure_headings(api: Api) -> list[str]:
    """The share of headings found first and among the first five, a file. Returns the floor if it was missed."""
    await upload_documents(api)
    headings = load_headings()
    found = await asyncio.gather(
        *(api.search(heading.text, "documents", top_k=FIRST) for heading in headings)
    )
    ranks = [rank(hits, heading) for hits, heading in zip(found, headings, strict=True)]
    for heading, hits, at in zip(headings, found, ranks, strict=True):
        if at is None:
            got = ", ".join(f"{hit['filename']} p. {hit['page']}" for hit in hits)
            print(f"{heading.file} p. {heading.page}: {heading.text} -> {got}", file=sys.stderr)
    print(
        "\n| headings of | number | page right in the first hit | in the first five |\n|---|---|---|---|"
    )
    for file in dict.fromkeys(heading.file for heading in headings):
        own = [at for at, heading in zip(ranks, headings, strict=True) if heading.file == file]
        print(f"| {file} | {_shares(own)} |")
    print(f"| all | {_shares(ranks)} |")
    share = sum(at is not None for at in ranks) / len(ranks)
    return [f"headings {share:.3f} of {FLOOR_HEADINGS}"] if share < FLOOR_HEADINGS else []


async def measure_scan(api: Api) -> list[str]:
    """Headings and questions, searched and asked for in the image-only scan alone: the page has to be right."""
    rows = await upload_documents(api)
    scan = next(row["id"] for row in rows if row["filename"] == SCAN)
    pages = range(_SCANNED_FROM, _SCANNED_FROM + 3)
    headings = [
        Titled(heading.text, SCAN, heading.page - _SCANNED_FROM + 1)
        for heading in load_headings()
        if heading.file == MANUAL and heading.page in pages
    ]
    print("\n| in the scan | page right | found or answered |\n|---|---|---|")
    missed = []
    for heading in headings:
        hits = await api.search(heading.text, "documents", top_k=FIRST, document_ids=[scan])
        good = bool(hits) and hits[0]["page"] == heading.page
        first = f"p. {hits[0]['page']}" if hits else "nothing"
        print(f"| heading {heading.text} | {'yes' if good else 'NO'} | {first} |")
        missed += [] if good else [f"scan: heading {heading.text}"]
    for wanted in SCANNED:
        answer = await api.ask(wanted.question, "documents", document_ids=[scan])
        good = right(answer, wanted)
        said = " ".join(answer["answer"].split()).replace("|", "/")[:100]
        cited = ", ".join(f"p. {citation['page']}" for citation in answer["citations"])
        print(f"| {wanted.question} | {'yes' if good else 'NO'} | {said} ({cited}) |")
        missed += [] if good else [f"scan: {wanted.question}"]
    return missed


def _shares(ranks: Iterable[int | None]) -> str:
    own = list(ranks)
    first = sum(at == 1 for at in own)
    five = sum(at is not None for at in own)
    return f"{len(own)} | {first / len(own):.3f} | {five / len(own):.3f}"
