"""Reading files against plain libraries: python -m bench.parse [--markitdown PYTHON] [FORMAT ...]

Pages (or, of formats without pages, files) per second on the clock, and peak memory of all processes
together, each engine in a process of its own that has read a small file of the format before: what is loaded once is
not counted. The same files for all, one engine after another. `ours` is the pool that a worker uses, children and all.
markitdown's packages are kept apart from ours: PYTHON is an interpreter that has `markitdown[pdf,docx,pptx,xlsx]`.
Prints a Markdown table, then how the reading of a text PDF and its embedding compare with pypdfium2 and the same.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.sets import DATA

DOCUMENTS = DATA / "documents"
FILES: Mapping[str, tuple[str, ...]] = {
    "pdf": ("debian-policy-4.6.2.pdf", "Debian新维护者手册.pdf"),
    "docx": ("officer-example.docx", "新维护者手册-节选.docx"),
    "pptx": ("officer-example.pptx", "officer-example.pptx"),
    "xlsx": ("readxl-datasets.xlsx", "readxl-datasets.xlsx"),
    "html": ("aptitude-ch02s02.html", "lilypond-text-input.zh.html"),
    "epub": ("winter-sports.epub", "debian-policy-4.6.2.epub"),
    "scan": ("scan-maint-guide-zh.pdf", "scan-maint-guide-zh.pdf"),
}
"""By format: a file that warms the engine up, and the one that is measured."""
_SCRIPT = """
import sys, time, warnings
warnings.simplefilter("ignore")
%s
read(sys.argv[1])
print("warm", flush=True)
sys.stdin.readline()
began = time.perf_counter()
read(sys.argv[2])
seconds = time.perf_counter() - began
close()
print(seconds, flush=True)
"""
_ENGINES: Mapping[str, str] = {
    "ours": """
from pathlib import Path
from indexer.parse.pool import ParserPool
readers = ParserPool()
def read(path): readers.parse(Path(path).read_bytes(), path)
close = readers.close
""",
    "ours, in one process": """
from pathlib import Path
from indexer.parse.parser import build_parser
parser = build_parser()
def read(path): parser.parse(Path(path).read_bytes(), path)
def close(): pass
""",
    "pypdfium2, text only": """
import pypdfium2
def read(path):
    document = pypdfium2.PdfDocument(path)
    for page in document:
        page.get_textpage().get_text_bounded()
def close(): pass
""",
    "rapidocr, pages at 150 dpi": """
import pypdfium2
from indexer.parse.ocr import _load
engine = _load(1)
def read(path):
    document = pypdfium2.PdfDocument(path)
    for page in document:
        engine(page.render(scale=150 / 72).to_numpy()[:, :, :3])
def close(): pass
""",
    "unstructured, fast": """
from indexer.parse.offline import go_offline
go_offline()
from unstructured.partition.auto import partition
def read(path): partition(path, strategy="fast")
def close(): pass
""",
    "markitdown": """
from markitdown import MarkItDown
converter = MarkItDown()
def read(path): converter.convert(path)
def close(): pass
""",
}
_ONLY = {
    "pypdfium2, text only": ("pdf",),
    "rapidocr, pages at 150 dpi": ("scan",),
    "unstructured, fast": ("docx", "pptx", "xlsx", "html", "epub"),
    "markitdown": ("pdf", "docx", "pptx", "xlsx", "html", "epub"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("formats", nargs="*", default=list(FILES))
    parser.add_argument("--markitdown", metavar="PYTHON")
    arguments = parser.parse_args()
    print("| format | engine | pages or files a second | peak memory MB |\n|---|---|---|---|")
    for kind in arguments.formats:
        for engine in _ENGINES:
            python = arguments.markitdown if engine == "markitdown" else sys.executable
            if python is None or kind not in _ONLY.get(engine, FILES):
                continue
            row = _measured(engine, kind, python)
            print(f"| {kind} | {engine} | {row} |", flush=True)
    if "pdf" in arguments.formats:
        _with_embedding()


def _measured(engine: str, kind: str, python: str) -> str:
    """A row of the table."""
    warm, path = (str(DOCUMENTS / name) for name in FILES[kind])
    process = subprocess.Popen(
        [python, "-c", _SCRIPT % _ENGINES[engine], warm, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if process.stdout.readline().strip() != "warm":
        process.wait()
        return "does not read it | "
    with _watched(process.pid) as peak:
        process.stdin.write("\n")
        process.stdin.flush()
        told = process.stdout.readline().split()
    process.wait()
    if len(told) != 1:
        return "does not read it | "
    seconds = float(told[0])
    return f"{_pages(Path(path)) / seconds:.3g} | {peak[0]:.0f}"


@contextmanager
def _watched(pid: int) -> Iterator[list[float]]:
    """The most resident memory, in 10^6 bytes, of a process and all below it."""
    peak = [0.0]
    over = threading.Event()

    def look() -> None:
        import psutil  # type: ignore[import-untyped]  # it comes with unstructured

        while not over.wait(0.02):
            try:
                process = psutil.Process(pid)
                every = [process, *process.children(recursive=True)]
                peak[0] = max(peak[0], sum(each.memory_info().rss for each in every) / 1e6)
            except psutil.Error:
                continue

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()


def _pages(path: Path) -> int:
    """Of a PDF; other files count as one."""
    if path.suffix != ".pdf":
        return 1
    import pypdfium2

    return len(pypdfium2.PdfDocument(path))


def _with_embedding() -> None:
    """CPU seconds for a text PDF from its bytes to its vectors, with pypdfium2's text in one case; the same chunks."""
    import asyncio

    from indexer.parse.pool import ParserPool
    from indexer.text.chunk import Chunking, cut
    from indexer.text.stored import store
    from models.bundled import ensure_e5
    from models.embed import E5Embedder

    path = DOCUMENTS / FILES["pdf"][1]
    embedder = E5Embedder.load(ensure_e5(Path(".cache/models")), threads=1)
    readers = ParserPool()
    parsed = readers.parse(path.read_bytes(), path.name)

    def plain() -> None:
        import pypdfium2

        for page in pypdfium2.PdfDocument(path):
            page.get_textpage().get_text_bounded()

    def ours() -> None:
        store(readers.parse(path.read_bytes(), path.name))

    passages = [c.passage for c in cut(store(parsed), None, embedder.count_tokens, Chunking())]

    def embedded() -> None:
        for at in range(0, len(passages), 16):
            asyncio.run(embedder.embed_passages(passages[at : at + 16]))

    plainly, with_us, vectors = (_seconds(each) for each in (plain, ours, embedded))
    readers.close()
    embedder.close()
    ratio = (with_us + vectors) / (plainly + vectors)
    print(
        f"\n{_pages(path)} pages of text, {len(passages)} chunks: pypdfium2's text {plainly:.2f} s, "
        f"reading {with_us:.2f} s, embedding {vectors:.1f} s; reading and embedding take {ratio:.2f} "
        "of pypdfium2 and embedding (limit 1.5)"
    )


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
