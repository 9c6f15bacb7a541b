"""What the command line prints."""

import json
import sys
from typing import NoReturn

from rich.console import Console
from rich.markup import escape

from app.schemas import AskResponse

SLIDES = (".pptx", ".ppt", ".pps", ".ppsx")
"""Names of files whose pages are slides."""
OUT = Console(soft_wrap=True)
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
