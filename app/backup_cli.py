"""`zhinao backup` and `zhinao restore`."""

import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.calls import Json
from app.settings import Settings, load
from app.terminal import OUT, bars, fail, plain, print_json
from indexer.folders import Folders

if TYPE_CHECKING:
    from indexer.index.vault import Vault

Data = Annotated[Path | None, typer.Option(help="The server's data folder.")]


def backup(
    folder: Annotated[Path, typer.Argument(help="The folder of backups; best on another disk.")],
    list_: Annotated[bool, typer.Option("--list", help="Only list what is there.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Only read all that is there, against its checksums.")
    ] = False,
    keep: Annotated[
        int | None,
        typer.Option(min=1, help="Afterwards remove all backups but the newest so many."),
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make a backup while everything runs; files that an earlier one has are not copied again."""
    if list_ + verify + (keep is not None) > 1:
        fail("--list, --verify and --keep go alone")
    from indexer.index.vault import Vault

    if list_:
        _list(Vault.open(folder), as_json=as_json)
    elif verify:
        _verify(Vault.open(folder), as_json=as_json)
    else:
        _make(load(data=data), folder, keep, as_json=as_json)


def restore(
    folder: Annotated[Path, typer.Argument(help="The folder of backups.")],
    backup_id: Annotated[
        str | None, typer.Option("--id", help="Which one (default: the newest).")
    ] = None,
    data: Data = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    as_json: Json = False,
) -> None:
    """Put a backup back into an empty data folder; every byte is checked first. Stop the server before."""
    from app.serve import own
    from indexer.index.restore import restore as put_back
    from indexer.index.vault import Vault

    settings = load(data=data)
    folders = Folders(settings.data.resolve())
    vault = Vault.open(folder)
    vault.get(backup_id)  # what is wrong is said before a folder is made
    with own(settings.data), bars(quiet=as_json) as say:
        done = put_back(vault, settings.database, folders, backup_id, force=force, say=say)
    if as_json:
        print_json({**done.backup.told(), "chunks_indexed": done.chunks})
        return
    about = done.backup.about
    OUT.print(
        f"restored {done.backup.id} to {plain(str(folders.data))}: {about['collections']} collections, "
        f"{about['documents']} documents, {done.chunks} chunks, {done.files} files, {_size(done.bytes)}"
    )
    OUT.print("start it with zhinao serve")


def _make(settings: Settings, folder: Path, keep: int | None, *, as_json: bool) -> None:
    from indexer.index.backup import back_up
    from indexer.index.vault import Vault
    from indexer.sql.database import Database

    folders = Folders(settings.data.resolve())
    if settings.database_url is None and not folders.database.exists():
        fail(f"there is nothing to back up in {folders.data}: name the server's folder with --data")
    with closing(Database(settings.database)) as database:
        database.migrate()
        vault = Vault.make(folder)
        with bars(quiet=as_json) as say:
            made = back_up(database, folders, vault, say=partial(say, "copying"))
    gone: list[str] = []
    freed = 0
    if keep is not None:
        with vault.writing():
            gone, freed = vault.prune(keep)
    if as_json:
        print_json({**made.told(), "pruned": gone, "freed_bytes": freed})
        return
    about = made.backup.about
    OUT.print(
        f"backup {made.backup.id}: {about['documents']} documents, {about['chunks']} chunks, "
        f"{len(made.backup.files)} files, {_size(made.backup.size)}; {_size(made.new_bytes)} were new"
    )
    for path in made.missing:
        OUT.print(
            f"[yellow]missing[/]  {plain(path)}: the file of a document is gone; upload it again"
        )
    if gone:
        OUT.print(f"removed {', '.join(gone)}: {_size(freed)} freed")


def _list(vault: "Vault", *, as_json: bool) -> None:
    backups = vault.backups()
    if as_json:
        print_json([one.told() for one in backups])
        return
    for one in backups:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.created))
        OUT.print(f"{one.id}  {when}  {one.about['documents']} documents  {_size(one.size)}")
    if not backups:
        OUT.print("there is no backup yet")


def _verify(vault: "Vault", *, as_json: bool) -> None:
    """Every content is read once, however many backups share it."""
    with vault.reading():
        backups, checked, done = vault.backups(), set[str](), 0
        total = sum(one.size for one in backups)
        wrong: dict[str, list[str]] = {}
        with bars(quiet=as_json) as say:

            def more(count: int) -> None:
                nonlocal done
                done += count
                say("reading", done, total)

            for one in backups:
                wrong[one.id] = vault.verify(one, checked, more)
    if as_json:
        print_json([{**one.told(), "damaged": wrong[one.id]} for one in backups])
    for one in backups if not as_json else ():
        state = "[red]damaged[/]" if wrong[one.id] else "[green]whole[/]  "
        OUT.print(f"{state}  {one.id}  {len(one.files)} files  {_size(one.size)}")
        for sentence in wrong[one.id]:
            OUT.print(f"         {plain(sentence)}")
    if any(wrong.values()):
        raise typer.Exit(1)


def _size(count: float) -> str:
    """Bytes for people.

    >>> _size(0), _size(2_500_000), _size(3 * 2**40)
    ('0 B', '2.4 MiB', '3.0 TiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
