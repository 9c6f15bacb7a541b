"""What the command line prints."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from app.schemas import AskResponse

SLIDES = (".pptx", ".ppt", ".pps", ".ppsx")
"""Names of files whose pages are slides."""
OUT = Console(soft_wrap=True)
SCREEN = Console()
"""Standard output for what is written over: lines are broken at its width, and none is cut off."""
ERR = Console(stderr=True, soft_wrap=True)


def print_answer(answer: AskResponse) -> None:
    """An answer and its citations, for a person."""
    label = "" if answer.model != "extractive" else "  (extractive: the documents' own sentences)"
    OUT.print(f"[bold]{plain(answer.answer)}[/][dim]{label}[/]")
    for citation in answer.citations:
        where = place(citation.filename, citation.page, citation.heading, citation.cells)
        OUT.print(f"  [cyan][{citation.marker}][/] {plain(where)}")
        OUT.print(f"      “{plain(' '.join(citation.quote.split()))}”")


def place(filename: str, page: int | None, heading: list[str], cells: str | None = None) -> str:
    """File, page or slide, heading path and cells in one line."""
    slides = filename.lower().endswith(SLIDES)
    where = f"{'slide' if slides else 'p.'} {page}" if page else ""
    parts = [filename, where, " › ".join(heading), cells]
    return " · ".join(part for part in parts if part)


def plain(text: str) -> str:
    """A text that shows as it is: square brackets are no markup."""
    return escape(text)


def print_json(value: object) -> None:
    """JSON for programs, on standard output."""
    print(json.dumps(value, ensure_ascii=False, indent=2))  # noqa: T201


def fail(message: str) -> NoReturn:
    """One sentence on standard error, exit code 1."""
    ERR.print(f"[red]error:[/] {plain(message)}")
    sys.exit(1)


@contextmanager
def bars(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar a stage; call what it yields with the stage, what is done, and all there is."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TimeRemainingColumn(), console=ERR, disable=quiet) as progress:
        tasks: dict[str, TaskID] = {}

        def say(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage)
            progress.update(tasks[stage], completed=done, total=total)

        yield say
