"""The evaluation sets of ../shared/data (their README.md says what they are and where they come from)."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent.parent / "shared" / "data"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, the documents that answer it (none when nothing does), and its gold answers."""

    text: str
    relevant: frozenset[str]
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Passages as files and questions about them."""

    name: str
    files: tuple[Path, ...]
    answerable: tuple[Asked, ...]
    unanswerable: tuple[Asked, ...]


def load_set(name: str, *, most: int | None = None) -> EvaluationSet:
    """A set, or its first `most` passages with the questions about them. `xquad-zh-en` has xquad-en's passages.

    Two of CMRC's questions are empty and left out.
    """
    folder = DATA / name
    documents = DATA / ("xquad-en" if name == "xquad-zh-en" else name)
    with (documents / "documents.tsv").open(encoding="utf-8") as file:
        rows = [row for row in csv.reader(file, delimiter="\t") if len(row) == 3][:most]
    kept = {row[0] for row in rows}
    relevant: dict[str, set[str]] = {}
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines():
        query, document, _ = line.split("\t")
        relevant.setdefault(query, set()).add(document)
    answerable = tuple(
        Asked(row["text"], frozenset(relevant[row["id"]]), tuple(row["answers"]))
        for row in _rows(folder / "queries.jsonl")
        if row["text"].strip() and relevant.get(row["id"], set()) & kept
    )
    unanswerable = folder / "unanswerable.jsonl"
    return EvaluationSet(
        name,
        tuple(documents / "documents" / row[1] for row in rows),
        answerable,
        tuple(Asked(row["text"], frozenset(), ()) for row in _rows(unanswerable))
        if unanswerable.exists()
        else (),
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
