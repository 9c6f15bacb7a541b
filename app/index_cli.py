"""`zhinao index`: where collections are searched."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from app.calls import Json
from app.settings import load
from app.terminal import OUT, bars, fail, plain, print_json
from indexer.folders import Folders

index = typer.Typer(help="Where collections are searched.", no_args_is_help=True)


@index.callback()
def _group() -> None:
    """Keeps `move` a command of its own, as it is the only one."""


@index.command()
def move(
    origin: Annotated[str, typer.Argument(help="faiss or milvus.")],
    goal: Annotated[str, typer.Argument(help="milvus or faiss.")],
    collection: Annotated[str, typer.Argument(help="The collection.")] = "default",
    data: Annotated[Path | None, typer.Option(help="The server's data folder.")] = None,
    as_json: Json = False,
) -> None:
    """Move a collection to Milvus or back while it is searched; nothing is embedded again."""
    from app.wiring_index import build_milvus
    from indexer.index.milvus_leg import MilvusLeg
    from indexer.index.move import Mover
    from indexer.sql.database import Database

    if {origin, goal} != {"faiss", "milvus"}:
        fail("say where from and where to: faiss milvus, or milvus faiss")
    settings = load(data=data)
    store = build_milvus(settings.index)
    if store is None:
        fail(
            "no Milvus is set: set ZHINAO_INDEX__MILVUS_URL, here and where the server and its workers start"
        )
    with closing(store), closing(Database(settings.database)) as database:
        database.migrate()
        MilvusLeg(database, store).sweep()
        mover = Mover(database, Folders(settings.data.resolve()), store)
        with bars(quiet=as_json) as say:
            to = mover.to_milvus if goal == "milvus" else mover.to_folder
            count = to(collection, lambda done, total: say("chunks", done, total))
    if as_json:
        print_json({"collection": collection, "index": goal, "chunks": count})
    else:
        OUT.print(f"{plain(collection)}: {count} chunks are searched in {goal}")
