"""What the size of a chunk does: `python -m bench.chunk_sizes`. The table stands in docs/quality.md.

In this process, without server and queue: the passages of two sets as files, and a manual of 63 pages whose 71 headings
are searched; a heading is found when a hit among the first five begins on its page or the next.
"""

import asyncio
import hashlib
import json
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean

from app.settings import load
from app.wiring import Core, build_core
from bench.sets import DATA, Asked, load_set
from indexer.catalog.taking import Upload
from indexer.index.publish import Publisher
from indexer.index.snapshot import Snapshots
from indexer.ingest.ingest import Ingester
from indexer.parse.parser import build_parser
from indexer.text.chunk import Chunking
from models.bundled import ensure_e5
from models.calibration import e5_calibration
from models.embed import E5Embedder
from models.rerank import MaxSimReranker
from models.sentence_scorer import TokenSentenceScorer
from pipeline.evaluate import ndcg
from pipeline.retrieve import Retriever, Space
from pipeline.types import Query

SIZES = (
    Chunking(aim=120, least=40),
    Chunking(aim=200, least=70),
    Chunking(aim=280, least=100),
    Chunking(aim=400, least=140),
)
MANUAL = "Debian新维护者手册.pdf"
SETS = {"xquad-zh": "xquad-zh", "xquad-en": "xquad-en", "xquad-zh-en": "xquad-en"}


def fill(core: Core, ingester: Ingester, collection: str, files: Iterable[Path]) -> None:
    """Index files one after the other."""
    core.catalog.create_collection(collection)
    folder = core.catalog.collection_id(collection)
    for path in files:
        data = path.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        original = core.folders.original(folder, sha256)
        original.parent.mkdir(parents=True, exist_ok=True)
        original.write_bytes(data)
        taken = core.catalog.take(collection, Upload(path.name, sha256, len(data), ""))
        claim = core.jobs.claim(taken.job or "")
        assert claim is not None
        ingester.run(claim)


async def measure(retriever: Retriever, asked: Iterable[Asked], collection: str) -> float:
    """NDCG@10 over documents."""
    scores = []
    for question in asked:
        hits = (await retriever.search(Query(question.text, collection, top_k=30))).hits
        ranking = list(dict.fromkeys(Path(hit.chunk.name).stem for hit in hits))
        scores.append(ndcg(ranking, question.relevant))
    return mean(scores)


async def headings(retriever: Retriever) -> float:
    """The share of the manual's headings that are found on their page."""
    lines = (DATA / "documents" / "headings.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["file"] == MANUAL]
    right = []
    for row in rows:
        hits = (await retriever.search(Query(row["text"], "manual", top_k=5))).hits
        right.append(any(hit.chunk.page in (row["page"], row["page"] + 1) for hit in hits))
    return mean(right)


def main() -> None:
    embedder = E5Embedder.load(ensure_e5(Path(".cache/models")), threads=2)
    print(
        "| aim, tokens | chunks | xquad-zh | xquad-en | xquad-zh-en | headings on their page, first 5 |"
    )
    print("|---|---|---|---|---|---|")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
            core = build_core(load(data=Path(folder)), embedder.fingerprint)
            publisher = Publisher(core.database, core.folders)
            ingester = Ingester(
                core.database, core.folders, core.jobs, build_parser(), embedder, publisher, size
            )
            for name in ("xquad-zh", "xquad-en"):
                fill(core, ingester, name, load_set(name).files)
            fill(core, ingester, "manual", [DATA / "documents" / MANUAL])
            snapshots = Snapshots(core.database, core.folders, fingerprint=embedder.fingerprint)
            scorer, calibration = TokenSentenceScorer(embedder), e5_calibration()
            space = Space(embedder, scorer, calibration, MaxSimReranker)
            retriever = Retriever([space], snapshots.open, pool)
            figures = [
                asyncio.run(measure(retriever, load_set(name).answerable, collection))
                for name, collection in SETS.items()
            ]
            chunks = sum(view.chunks for view in core.catalog.collections())
            row = [str(size.aim), str(chunks), *(f"{figure:.4f}" for figure in figures)]
            print(f"| {' | '.join(row)} | {asyncio.run(headings(retriever)):.3f} |", flush=True)
            core.database.close()
    embedder.close()


if __name__ == "__main__":
    main()
