"""What publishing 1,000 more chunks, and seeing them, costs in a small collection and in a large one.

Run: nice python -m bench.publishing [--sizes 10000,100000] [--folder DIR]

The real publisher, merger and snapshots run on SQLite, FAISS and tantivy in this process; only parsing and
embedding are left out. Chunks are 20 words long. Publishing is files, words and the one transaction;
seeing is what the next search waits for until it reads the new state. Each is the median of nine.
Merging runs behind it, in a process of its own; what it costs bench/index.py tells. A folder that is kept is grown
on from where it stands.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sqlmodel import func, select

from bench.index import Row, cloud, sizes, table
from indexer.catalog.catalog import Catalog
from indexer.catalog.taking import Upload
from indexer.folders import Folders
from indexer.index.merge import Merger
from indexer.index.publish import Publisher
from indexer.index.snapshot import Snapshots
from indexer.jobs.claims import FileClaim
from indexer.jobs.jobs import Jobs
from indexer.segments.segment import IndexRule, Staged
from indexer.segments.staging import save_staged
from indexer.sql.database import Database
from indexer.sql.tables import ChunkRow, CollectionRow, DocumentRow, VersionRow
from indexer.text.chunk import Cut
from pipeline.types import Script

DIM, BULK, UPLOAD, TIMES, FINGERPRINT = 384, 20_000, 1000, 9, "bench"
FLAT = IndexRule(flat_rows=10**9)


class Filled:
    """A data folder with one collection that grows."""

    def __init__(self, folder: Path) -> None:
        self.folders = Folders(folder)
        self.database = Database(f"sqlite:///{folder / 'zhinao.db'}")
        self.database.migrate()
        self.catalog = Catalog(
            self.database, self.folders, fingerprint=FINGERPRINT, chunking="bench"
        )
        self.catalog.ensure_collection("default")
        self.collection = self.catalog.collection_id("default")
        self.jobs = Jobs(self.database)
        self.publisher = Publisher(self.database, self.folders, rule=FLAT)
        self.merger = Merger(self.database, self.folders, rule=FLAT)
        self.snapshots = Snapshots(self.database, self.folders, fingerprint=FINGERPRINT)
        self.words = [f"w{i}" for i in range(30_000)]
        with self.database.read() as session:
            self.uploads = session.exec(select(func.count()).select_from(DocumentRow)).one()
            self.chunks = session.exec(select(func.count()).select_from(ChunkRow)).one()

    def staged(self, count: int) -> FileClaim:
        """A document of so many chunks that is embedded and waits."""
        self.uploads += 1
        upload = Upload(f"{self.uploads}.txt", f"{self.uploads:064x}", 1, "text/plain")
        original = self.folders.original(self.collection, upload.sha256)
        original.parent.mkdir(parents=True, exist_ok=True)
        original.write_bytes(b"x")
        job = self.catalog.take("default", upload).job
        claim = self.jobs.claim(job) if job else None
        if not isinstance(claim, FileClaim):
            raise TypeError("the job of an upload reads a file")
        dice = np.random.default_rng(self.uploads)
        drawn = (dice.pareto(1.0, (count, 20)) * 3).astype(int) % len(self.words)
        texts = [" ".join(self.words[i] for i in row) for row in drawn.tolist()]
        ends = np.cumsum([len(text) + 1 for text in texts]).tolist()
        cuts = [
            Cut(end - len(text) - 1, end - 1, text, None, (), "", Script.LATIN)
            for end, text in zip(ends, texts, strict=True)
        ]
        rows = Staged(
            cloud(DIM, self.uploads, count).astype(np.float16), None, (Script.LATIN,) * count
        )
        with self.database.read() as session:
            generation = session.get_one(CollectionRow, self.collection).generation_id
        path = self.folders.staged(self.collection, generation, claim.version_id)
        save_staged(path, cuts, rows, fingerprint=FINGERPRINT)
        with self.database.write() as session:
            version = session.get_one(VersionRow, claim.version_id)
            version.status = "staged"
            session.add(version)
        return claim

    def publish(self, claim: FileClaim) -> None:
        self.publisher.publish(claim, on_wait=lambda: None)


def main() -> None:
    """Print a table of every size."""
    parser = argparse.ArgumentParser(prog="python -m bench.publishing")
    parser.add_argument("--sizes", type=sizes, default=[10_000, 100_000], help="in chunks")
    parser.add_argument("--folder", type=Path, help="kept, and grown on from where it stands")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="bench-publishing-"))
    try:
        filled, columns = Filled(folder), {}
        done = filled.chunks
        for size in asked.sizes:
            while done < size:
                count = min(BULK, size - done)
                filled.publish(filled.staged(count))
                done += count
                print(f"{done:,} chunks", file=sys.stderr, flush=True)
            filled.merger.run(filled.collection)
            columns[done] = _column(filled)
            print(columns[done], file=sys.stderr, flush=True)
            done += TIMES * UPLOAD
        table(columns, DIM)
        filled.database.close()
    finally:
        if asked.folder is None:
            shutil.rmtree(folder)


def _column(filled: Filled) -> Row:
    start = time.perf_counter()
    filled.snapshots.open("default")
    opening = time.perf_counter() - start
    publishing, processor, seeing = [], [], []
    for _ in range(TIMES):
        claim = filled.staged(UPLOAD)
        start, busy = time.perf_counter(), time.process_time()
        filled.publish(claim)
        publishing.append(time.perf_counter() - start)
        processor.append(time.process_time() - busy)
        start = time.perf_counter()
        filled.snapshots.open("default")
        seeing.append(time.perf_counter() - start)
    return {
        "publishing 1,000 chunks, ms": float(np.median(publishing)) * 1000,
        "of it processor time, ms": float(np.median(processor)) * 1000,
        "seeing them, ms": float(np.median(seeing)) * 1000,
        "opening all, s": opening,
    }


if __name__ == "__main__":
    main()
