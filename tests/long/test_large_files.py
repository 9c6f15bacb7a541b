"""The largest files, through a whole server: they end as they should, in bounded time and memory."""

import re
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from memory import Watch
from pages import said, scan_pdf, text_pdf
from processes import children_of
from rest import Api

from app.running import Server, running_server
from indexer.parse.pool import ParserPool
from pipeline.errors import RagError

HOUR = 3600
DATA = Path(__file__).parents[1] / "data"
LARGEST = 500_000  # bytes: the two files that tests/e2e/test_bad_files.py leaves out


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("data"), options=("--no-samples",)) as running:
        yield running


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    made = Api(server.url)
    yield made
    made.http.close()


def worker(server: Server) -> int:
    """The process above all that work on files."""
    below = children_of(server.process.pid)
    return min(pid for pid, command in below.items() if "celery" in command)


def ended(api: Api, job_id: str) -> dict:
    end = time.monotonic() + HOUR
    while time.monotonic() < end:
        job = api.http.get(f"/jobs/{job_id}").json()
        if job["status"] in ("done", "failed", "dead"):
            return job
        time.sleep(0.5)
    raise AssertionError(f"the job did not end: {job}")


def stands_on(api: Api, collection: str, page: int, first: int) -> bool:
    """Whether what was written on a page, and on no other, is found there among the `first` hits."""
    number = said(page).split()[2]
    hits = api.search(said(page), collection, mode="words", top_k=first)
    return any(h["page"] == page and number in re.findall(r"\d+", h["text"]) for h in hits)


@pytest.mark.parametrize(
    ("pages", "write", "first"),
    [
        (900, lambda path: text_pdf(path, 900), 1),
        # Large lines of a scan are headings, which the pages behind are found by, too.
        (400, lambda path: scan_pdf(path, 400, a4_every=10), 20),
    ],
    ids=["900 pages of text", "400 scanned pages"],
)
def test_a_long_document_stays_under_one_and_a_half_gigabytes_at_the_worker_s_peak(
    api: Api, server: Server, tmp_path: Path, pages: int, write, first: int
) -> None:
    collection = api.collection()
    data = write(tmp_path / "long.pdf").read_bytes()
    with Watch(worker(server), apart=True) as watch:
        [row] = api.send(collection, ("long.pdf", data)).json()["documents"]
        job = ended(api, row["job_id"])
    assert job["status"] == "done", job
    document = api.http.get(f"/documents/{row['id']}").json()
    assert document["pages"] == pages
    print(f"{watch.peak:.0f} MB")
    for page in (1, pages // 2, pages):
        found = api.search(said(page), collection, mode="words")
        assert (found[0]["page"], said(page).split()[2] in found[0]["text"]) == (page, True)
    lost = [p for p in range(1, pages + 1) if not stands_on(api, collection, p, first)]
    assert lost == []
    assert watch.peak < 1_500, watch.peak


def test_no_bad_file_takes_a_gigabyte_or_a_minute(bad: Path) -> None:
    costs = {}
    for line in (bad / "EXPECTED.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        name = line.split("\t")[0]
        data = (bad / name).read_bytes()
        with closing(ParserPool()) as readers:  # anew for each, so that the peak is its own
            readers.start()
            begun = time.monotonic()
            with suppress(RagError):
                readers.parse(data, name)
            costs[name] = (readers.peak / 1e6, time.monotonic() - begun)
    print("\n".join(f"{name[:40]}\t{mb:.0f} MB\t{s:.1f} s" for name, (mb, s) in costs.items()))
    assert len(costs) > 30
    assert max(mb for mb, _ in costs.values()) < 1_000, costs
    assert max(seconds for _, seconds in costs.values()) < 60, costs


def test_the_bad_files_of_megabytes_are_cut_and_found(api: Api, server: Server, bad: Path) -> None:
    """What they may cost to read is measured above; here they are embedded, too, and others beside them."""
    collection = api.collection()
    others = [DATA / name for name in ("handbook.en.md", "recipe.zh.txt")]
    large = [path for path in sorted(bad.iterdir()) if path.stat().st_size >= LARGEST]
    large = [path for path in large if path.suffix == ".txt"]
    assert len(large) == 2
    with Watch(worker(server), apart=True) as watch:
        sent = [(path.name, path.read_bytes()) for path in (*large, *others)]
        rows = api.send(collection, *sent).json()
        jobs = [ended(api, row["job_id"]) for row in rows["documents"]]
    assert [job["status"] for job in jobs] == ["done"] * 4, jobs
    for row, path in zip(rows["documents"][2:], others, strict=True):
        text = api.http.get(f"/documents/{row['id']}/text").text
        lines = [line.strip("#-* ") for line in path.read_text(encoding="utf-8").splitlines()]
        assert "".join(lines[-1].split()) in "".join(text.split())
    assert api.search("fox number 77777 jumps", collection, mode="words")
    print(f"{watch.peak:.0f} MB")
    assert watch.peak < 2_000, watch.peak  # two files at once
