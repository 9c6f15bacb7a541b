"""`zhinao database`: the rows of one database into another."""

from pathlib import Path
from typing import Annotated

import typer

from app.settings import load
from app.terminal import OUT, plain

database = typer.Typer(
    help="The database of documents, versions, chunks and jobs.", no_args_is_help=True
)


@database.callback()
def _group() -> None:
    """Keeps `copy` a command of its own, as it is the only one."""


@database.command()
def copy(
    to: Annotated[
        str,
        typer.Option(
            help="The URL of an empty database; PostgreSQL reads its password from PGPASSWORD or PGPASSFILE, too."
        ),
    ],
    data: Annotated[Path | None, typer.Option(help="The server's data folder.")] = None,
) -> None:
    """Copy all rows from the database that is set (DATABASE_URL, else SQLite in the data folder) to another.

    Stop the server and its workers first. The other files of the data folder stay where they are.
    """
    from app.serve import own
    from indexer.sql.copying import copy_rows
    from indexer.sql.database import Database, shown

    settings = load(data=data)
    with own(settings.data):
        source, target = Database(settings.database), Database(to)
        try:
            counts = copy_rows(source, target)
        finally:
            source.close()
            target.close()
    told = ", ".join(f"{count} of {name}" for name, count in counts.items() if count)
    OUT.print(f"copied to {plain(shown(to))}: {told or 'no rows, as there were none'}")
    OUT.print("set DATABASE_URL to it, then start the server")
