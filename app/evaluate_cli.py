"""`zhinao questions` and `zhinao evaluate`: what a collection is judged by, and how it does."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table

from app.calls import Json, Url, call
from app.client import ApiClient
from app.job_schemas import EvaluateRequest, JobOut
from app.reindex_cli import followed
from app.schemas import QuestionsRequest
from app.terminal import OUT, fail, plain, print_json

_MODES = {"hybrid": "as it is searched", "dense": "by vectors alone", "words": "by words alone"}
Name = Annotated[str, typer.Argument(help="The collection.")]


def questions(
    collection: Name = "default",
    put: Annotated[
        Path | None,
        typer.Option(
            "--set",
            help='JSON that takes their place: [{"question": "...", "filenames": ["..."], "passage": "..."}, ...]; '
            "document_ids may stand for filenames, and passage (words that a hit must hold) may be left out.",
        ),
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show or set the questions that a collection is judged by: when it is evaluated and when it is re-indexed."""
    request = _read(put) if put else None

    def done(api: ApiClient) -> Any:  # noqa: ANN401  (a coroutine of the response)
        return (
            api.questions(collection) if request is None else api.put_questions(collection, request)
        )

    rows = call(url, done).questions
    if as_json:
        print_json([row.model_dump() for row in rows])
        return
    table = Table("question", "documents", "passage")
    for row in rows:
        table.add_row(
            plain(row.question), plain(", ".join(row.filenames)), plain(row.passage or "")
        )
    OUT.print(table if rows else "no questions: set some with --set FILE")


def evaluate(
    collection: Name = "default",
    top_k: Annotated[
        int, typer.Option("--top-k", "-k", min=1, max=100, help="First hits that count.")
    ] = 10,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Ask a collection its own questions (zhinao questions), and count how many its first hits answer."""
    request = EvaluateRequest(collection=collection, top_k=top_k)
    job = call(url, lambda api: _asked(api, request, quiet=as_json))
    if as_json:
        print_json(job.model_dump())
    elif job.status == "done":
        _print(job.result)
    if job.status != "done":
        fail(job.error or f"the job ended as {job.status}")


async def _asked(api: ApiClient, request: EvaluateRequest, *, quiet: bool) -> JobOut:
    return await followed(api, await api.evaluate(request), {"evaluate": "asking"}, quiet=quiet)


def _print(result: dict[str, Any]) -> None:
    table = Table("search", f"recall@{result['top_k']}", "MRR")
    for mode, told in result["modes"].items():
        table.add_row(_MODES.get(mode, mode), f"{told['recall']:.1%}", f"{told['mrr']:.3f}")
    OUT.print(table)
    OUT.print(f"{result['questions']} questions; no first hit answers {result['missed']} of them")
    for question in result["missed_questions"]:
        OUT.print(f"  {plain(question)}")


def _read(path: Path) -> QuestionsRequest:
    try:
        return QuestionsRequest.model_validate({"questions": json.loads(path.read_text("utf-8"))})
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}")
    except (ValueError, ValidationError) as error:
        first = str(error).splitlines()[0]
        fail(f"{path} is no list of questions with the documents that answer them: {first}")
