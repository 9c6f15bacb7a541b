"""Answers from real documents, from the samples, and from collections of one page: parts of bench/quality.py."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.client import Api
from bench.sets import DATA
from pipeline.evaluate import contains

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "app" / "samples"
SMALL = ROOT / "tests" / "data"
_MANUAL = {"Debian新维护者手册.pdf": 15, "新维护者手册-节选.docx": None}
_PBUILDER = {"Debian新维护者手册.pdf": 46, "新维护者手册-节选.docx": None}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A question, the files that answer it with the page where one is known, and words of the answer."""

    question: str
    places: Mapping[str, int | None]
    words: str


# Ten questions about ../shared/data/documents. The manual and the policy are there in two formats each.
QUESTIONS = (
    Wanted("教程里用来作示例的 GTK+ 文件管理器叫什么？", _MANUAL, "gentoo"),
    Wanted("用 chroot 环境来验证编译依赖，哪个软件包非常有用？", _PBUILDER, "pbuilder"),
    Wanted(
        "《夜思》里“举头望明月”的下一句是什么？", {"唐诗三百首.gb18030.txt": None}, "低头思故乡"
    ),
    Wanted("版权协议文本能够在哪里找到？", {"refcard-zh_CN-a4.pdf": 1}, "common-licenses/GPL-3"),
    Wanted(
        "LilyPond 是免费的吗？",
        {"lilypond-introduction.zh.html": None, "lilypond-features.zh.html": None},
        "免费",
    ),
    Wanted(
        "Where must the maintainer of a package be specified?",
        {"debian-policy-4.6.2.pdf": 25, "debian-policy-4.6.2.epub": None},
        "Maintainer control field",
    ),
    Wanted(
        "Are maintainer scripts guaranteed to run with a controlling terminal?",
        {"debian-policy-4.6.2.pdf": 60, "debian-policy-4.6.2.epub": None},
        "not guaranteed",
    ),
    Wanted(
        "How long before the first date set for the meeting must the debtor provide the tax return to the trustee?",
        {"trustee-handbook-872p.docx": None},
        "not later than seven days before",
    ),
    Wanted(
        "In which year was the Cresta run first engineered?", {"winter-sports.epub": None}, "1884"
    ),
    Wanted(
        "Which Debian version has the codename Woody?",
        {"debian-releases.csv": None, "维护者手册讨论.eml/releases.csv": None},
        "3.0",
    ),
)


def right(answer: Mapping[str, Any], wanted: Wanted) -> bool:
    """Whether a citation stands in a right file on the right page and the answer has the words."""
    cited = any(
        c["filename"] in wanted.places and wanted.places[c["filename"]] in (None, c["page"])
        for c in answer["citations"]
    )
    return cited and not answer["refused"] and contains(answer["answer"], [wanted.words])


async def upload_documents(api: Api) -> list[dict[str, Any]]:
    """All good files of ../shared/data/documents in a collection; one row a file, its job's end in `job`.

    A file that an earlier run uploaded has no job now: it counts as done.
    """
    await api.create("documents")
    files = [p for p in sorted((DATA / "documents").iterdir()) if p.is_file() and not _about(p)]
    kept = {"status": "done", "total": "kept", "error": None}
    return [{"job": kept, **row} for row in await api.upload("documents", files)]


async def measure_documents(api: Api) -> list[str]:
    """Every good file is read, and each of the ten questions is answered from the right place."""
    rows = await upload_documents(api)
    print("\n| file | status | chunks |\n|---|---|---|")
    for row in rows:
        print(f"| {row['filename']} | {row['job']['status']} | {row['job']['total']} |")
    missed = [
        f"{row['filename']}: {row['job']['error']}"
        for row in rows
        if row["job"]["status"] != "done"
    ]
    missed += await _questions(api, "documents", QUESTIONS)
    await api.create("samples")
    await api.upload("samples", [p for p in sorted(SAMPLES.iterdir()) if p.suffix != ".jsonl"])
    asked = [
        json.loads(line) for line in (SAMPLES / "questions.jsonl").read_text("utf-8").splitlines()
    ]
    known = [Wanted(q["question"], {q["file"]: q["page"]}, q["answer"]) for q in asked if q["file"]]
    wrong = await _questions(api, "samples", known)
    unknown = [q["question"] for q in asked if not q["file"]]
    answered = [q for q in unknown if not (await api.ask(q, "samples"))["refused"]]
    print(f"\nSamples: {len(known) - len(wrong)} of {len(known)} right; "
          f"{len(unknown) - len(answered)} of {len(unknown)} that nothing answers declined.")  # fmt: skip
    return missed


async def _questions(api: Api, collection: str, questions: Iterable[Wanted]) -> list[str]:
    print("\n| question | right | answer | cited |\n|---|---|---|---|")
    missed = []
    for wanted in questions:
        answer = await api.ask(wanted.question, collection)
        good = right(answer, wanted)
        cited = ", ".join(f"{c['filename']} p. {c['page']}" for c in answer["citations"])
        said = " ".join(answer["answer"].split()).replace("|", "/")[:120]
        print(f"| {wanted.question} | {'yes' if good else 'NO'} | {said} | {cited} |")
        if not good:
            missed.append(f"not answered: {wanted.question}")
    return missed


def _about(path: Path) -> bool:
    return path.name in ("README.md", "FILES.tsv", "headings.jsonl")


async def measure_small(api: Api) -> list[str]:
    """A collection of one page answers three questions and declines two; so does a pair of both languages."""
    by_file: dict[str, list[dict[str, Any]]] = {}
    for line in (SMALL / "questions.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        by_file.setdefault(row["file"], []).append(row)
    groups = [(name,) for name in by_file] + [
        ("warranty.zh.pdf", "warranty.en.pdf"),
        ("recipe.zh.txt", "lease.en.txt"),
        ("leave.zh.docx", "meeting.en.eml"),
    ]
    print("\n| collection of | answered | declined |\n|---|---|---|")
    missed = []
    for number, group in enumerate(groups):
        collection = f"small-{number}"
        await api.create(collection)
        await api.upload(collection, [SMALL / name for name in group])
        rows = [row for name in group for row in by_file[name]]
        counts = {True: [0, 0], False: [0, 0]}
        for row in rows:
            answer = await api.ask(row["question"], collection)
            good = (
                contains(answer["answer"], [row["answer"]]) and not answer["refused"]
                if row["answerable"]
                else answer["refused"]
            )
            counts[row["answerable"]][0] += good
            counts[row["answerable"]][1] += 1
            if not good:
                missed.append(f"{' + '.join(group)}: {row['question']} -> {answer['answer'][:80]}")
        row = [f"{good} of {total}" for good, total in (counts[True], counts[False])]
        print(f"| {' + '.join(group)} | {' | '.join(row)} |")
    return missed
