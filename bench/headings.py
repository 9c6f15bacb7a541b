"""Headings and a scan, found on their pages: parts of bench/quality.py.

Each of the 344 outline entries of the PDFs in ../shared/data/documents is searched for among all good documents there; it
is found when one of the first five hits is in its file and on its page or the next (the rule of that folder's README).
"""

import asyncio
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.client import Api
from bench.documents import upload_documents
from bench.sets import DATA
from pipeline.evaluate import contains

FIRST = 5
FLOOR_HEADINGS = 0.90


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


def _shares(ranks: Iterable[int | None]) -> str:
    own = list(ranks)
    first = sum(at == 1 for at in own)
    five = sum(at is not None for at in own)
    return f"{len(own)} | {first / len(own):.3f} | {five / len(own):.3f}"
