"""The figures of docs/quality.md, over REST: `python -m bench.quality [PART]...`, all `PARTS` by default.

With `--data DIR` the folder is kept, and what was uploaded in an earlier run is not uploaded again.
Starts a server with an empty data folder, uploads the passages of ../shared/data as documents, and prints the tables.
Exits 1 when a floor is missed.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from app.running import running_server
from bench.client import Api, documents_of
from bench.documents import measure_documents, measure_small
from bench.headings import measure_headings, measure_scan
from bench.sets import Asked, EvaluationSet, load_set
from bench.spreadsheets import measure_tables
from pipeline.evaluate import contains, ndcg, recall

NAMES = ("xquad-zh", "xquad-en", "xquad-zh-en", "cmrc2018-trial")
FLOORS = {"xquad-zh": 0.965, "xquad-en": 0.978, "xquad-zh-en": 0.88, "cmrc2018-trial": 0.985}
FLOOR_WITHOUT_RERANK = {"xquad-zh-en": 0.82}
FLOOR_MIXED = 0.75
LEGS: dict[str, dict[str, object]] = {
    "words": {"mode": "words"},
    "dense": {"mode": "dense", "rerank": False},
    "dense + rerank": {"mode": "dense"},
    "hybrid": {"mode": "hybrid", "rerank": False},
    "hybrid + rerank": {"mode": "hybrid"},
}
PARTS = ("retrieval", "mixed", "answers", "documents", "headings", "scan", "small", "tables")


@dataclass(frozen=True, slots=True)
class Figures:
    """NDCG@10 and recall@10."""

    ndcg: float
    recall: float

    def __str__(self) -> str:
        return f"{self.ndcg:.4f} / {self.recall:.3f}"


async def measure(api: Api, asked: Sequence[Asked], collection: str, **leg: object) -> Figures:
    """Ranks documents for every question."""
    found = await asyncio.gather(*(api.search(q.text, collection, **leg) for q in asked))
    rankings = [documents_of(hits) for hits in found]
    pairs = list(zip(rankings, asked, strict=True))
    return Figures(
        mean(ndcg(ranking, q.relevant) for ranking, q in pairs),
        mean(recall(ranking, q.relevant) for ranking, q in pairs),
    )


async def upload_set(api: Api, given: EvaluationSet) -> str:
    """Upload a set's passages into a collection of their own; returns its name."""
    collection = "xquad-en" if given.name == "xquad-zh-en" else given.name
    if given.name != "xquad-zh-en" and await api.create(collection):
        rows = await api.upload(collection, given.files)
        assert all(row["job"]["status"] == "done" for row in rows), [r for r in rows if r["error"]]
    return collection


async def retrieval(api: Api, sets: Sequence[EvaluationSet]) -> list[str]:
    """NDCG@10 / recall@10 of every leg alone and together. Returns the floors that were missed."""
    table: dict[str, dict[str, Figures]] = {}
    for given in sets:
        table[given.name] = {}
        for leg, options in LEGS.items():
            figures = await measure(api, given.answerable, _collection(given), **options)
            table[given.name][leg] = figures
            print(f"{given.name}, {leg}: {figures}", file=sys.stderr, flush=True)
    print(f"| NDCG@10 / R@10 | {' | '.join(table)} |\n|---|{'---|' * len(table)}")
    for leg in LEGS:
        print(f"| {leg} | {' | '.join(str(row[leg]) for row in table.values())} |")
    missed = [
        f"{n} {f}" for n, f in FLOORS.items() if n in table and table[n]["hybrid + rerank"].ndcg < f
    ]
    return missed + [
        f"{n} without rerank {f}"
        for n, f in FLOOR_WITHOUT_RERANK.items()
        if n in table and table[n]["hybrid"].ndcg < f
    ]


def _collection(given: EvaluationSet) -> str:
    return "xquad-en" if given.name == "xquad-zh-en" else given.name


async def mixed(api: Api) -> list[str]:
    """Half of the articles in Chinese, half in English, in one collection; then the other halves."""
    zh, en = load_set("xquad-zh"), load_set("xquad-en")
    print(
        "\n| mixed collection, NDCG@10 / R@10 | zh question, en passage | en question, zh passage | same language |"
    )
    print("|---|---|---|---|")
    missed = []
    for half in (0, 1):
        collection = f"mixed-{half}"
        new = await api.create(collection)
        chinese = {p.stem for p in zh.files if _article(p.stem) // 2 % 2 == half}
        files = [p for p in zh.files if p.stem in chinese] + [
            p for p in en.files if p.stem not in chinese
        ]
        if new:
            await api.upload(collection, files)
        groups = {
            "zh-en": [q for q in zh.answerable if not q.relevant & chinese],
            "en-zh": [q for q in en.answerable if q.relevant & chinese],
            "same": [q for q in zh.answerable if q.relevant & chinese]
            + [q for q in en.answerable if not q.relevant & chinese],
        }
        for leg in ("dense", "hybrid", "hybrid + rerank"):
            row = {
                name: await measure(api, asked, collection, **LEGS[leg])
                for name, asked in groups.items()
            }
            print(f"| half {half}, {leg} | {row['zh-en']} | {row['en-zh']} | {row['same']} |")
            if leg == "hybrid + rerank":
                missed += [f"mixed {n}" for n in ("zh-en", "en-zh") if row[n].ndcg < FLOOR_MIXED]
    return missed


def _article(document: str) -> int:
    return int(document.removeprefix("xq").split("-")[0])


async def answers(api: Api, sets: Sequence[EvaluationSet]) -> list[str]:
    """Extractive answers: gold words in the answer, answerable questions declined, unanswerable ones declined."""
    print(
        "\n| answers | gold words in the answer | answerable, declined | unanswerable, declined |\n|---|---|---|---|"
    )
    refused = total = 0
    for given in sets:
        collection = _collection(given)
        said = await asyncio.gather(*(api.ask(q.text, collection) for q in given.answerable))
        none = await asyncio.gather(*(api.ask(q.text, collection) for q in given.unanswerable))
        right = mean(
            contains(a["answer"], q.answers) for a, q in zip(said, given.answerable, strict=True)
        )
        lost = mean(a["refused"] for a in said)
        declined = sum(a["refused"] for a in none)
        refused, total = refused + declined, total + len(none)
        share = f"{declined} of {len(none)}" if none else "-"
        print(f"| {given.name} | {right:.3f} | {lost:.3f} | {share} |")
    print(f"\nDeclined of all unanswerable questions: {refused / max(1, total):.3f}")
    return []


async def run(url: str, parts: Sequence[str]) -> list[str]:
    missed: list[str] = []
    async with Api(url) as api:
        if {"retrieval", "answers"} & set(parts):
            sets = [load_set(name) for name in NAMES]
            started = time.monotonic()
            for given in sets:
                await upload_set(api, given)
            print(f"uploaded in {time.monotonic() - started:.0f} s\n")
            if "retrieval" in parts:
                missed += await retrieval(api, sets)
            if "answers" in parts:
                missed += await answers(api, [s for s in sets if s.name != "xquad-zh-en"])
        if "mixed" in parts:
            missed += await mixed(api)
        if "documents" in parts:
            missed += await measure_documents(api)
        if "headings" in parts:
            missed += await measure_headings(api)
        if "scan" in parts:
            missed += await measure_scan(api)
        if "small" in parts:
            missed += await measure_small(api)
        if "tables" in parts:
            with tempfile.TemporaryDirectory() as folder:
                missed += await measure_tables(api, Path(folder))
    return missed


def main() -> int:
    words = sys.argv[1:]
    kept = Path(words[words.index("--data") + 1]) if "--data" in words else None
    parts = [
        word for word in words if word != "--data" and (kept is None or word != str(kept))
    ] or list(PARTS)
    if unknown := [part for part in parts if part not in PARTS]:
        print(f"there is no part {unknown[0]}: the parts are {', '.join(PARTS)}")
        return 2
    with (
        tempfile.TemporaryDirectory(prefix="zhinao-quality-") as folder,
        running_server(kept or Path(folder), options=("--no-samples", "--role", "api")) as server,
    ):
        missed = asyncio.run(run(server.url, parts))
    for floor in missed:
        print(f"MISSED: {floor}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
