"""`zhinao models`: which models are known and here; fetch, convert and verify them."""

# ruff: noqa: FBT002  typer reads options from keyword defaults

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from app.settings import load
from app.terminal import ERR, OUT, plain, print_json
from models.checkpoint.convert import convert as convert_folder
from models.checkpoint.hub_client import HubClient, Wanted
from models.checkpoint.hubs import Hub, default_endpoint, default_revision
from models.checkpoint.licence import licence_of
from models.checkpoint.manifest import MANIFEST, read_manifest, write_text
from models.checkpoint.pull import is_complete
from models.checkpoint.pull import pull as pull_folder
from models.checkpoint.score_position import read_pairs
from models.checkpoint.verify import Report, check_folder
from models.checkpoint.verify import verify as verify_folder
from pipeline.errors import ModelUnavailable, NotFound

if TYPE_CHECKING:
    from models.zhinao.known import KnownModel

VERIFIED = ".verified.json"
_TOKENS = {Hub.HUGGING_FACE: "HF_TOKEN", Hub.MODELSCOPE: "MODELSCOPE_API_TOKEN"}

models = typer.Typer(
    help="The 360Zhinao models: list, fetch, convert and verify them.", no_args_is_help=True
)

Data = Annotated[Path | None, typer.Option("--data", help="The folder that holds everything.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Names = Annotated[list[str], typer.Argument(help="Names from `zhinao models list`.")]
Name = Annotated[str, typer.Argument(help="A name of `zhinao models list`, or a folder.")]


@dataclass(frozen=True, slots=True)
class Row:
    """A known model and what of it is on this disk."""

    name: str
    kind: str
    repositories: dict[str, str]
    context: int | None
    licence: str
    pulled: bool
    converted: bool
    verified: bool


@models.command("list")
def list_models(data: Data = None, as_json: Json = False) -> None:
    """Every model of the family, and which are here."""
    root = _root(data)
    rows = [_row(root, known) for known in _table()]
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    table = Table(
        Column("model", no_wrap=True),
        "for",
        "context",
        "licence",
        "pulled",
        "converted",
        "verified",
    )
    for row in rows:
        marks = ["yes" if one else "" for one in (row.pulled, row.converted, row.verified)]
        context = f"{row.context}" if row.context else "its config's"
        table.add_row(plain(row.name), row.kind, context, plain(row.licence), *marks)
    OUT.print(table)


@models.command()
def pull(
    names: Names,
    hub: Annotated[Hub, typer.Option("--from", help="The hub to fetch from.")] = Hub.HUGGING_FACE,
    endpoint: Annotated[str | None, typer.Option(help="The hub's address, or a mirror's.")] = None,
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit.")] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the licence of the weights.")
    ] = False,
    then_convert: Annotated[bool, typer.Option("--convert", help="Convert them too.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Fetch models; a run that was stopped goes on where it ended.

    HF_TOKEN and MODELSCOPE_API_TOKEN, HF_ENDPOINT and MODELSCOPE_ENDPOINT are read.
    """
    root = _root(data)
    chosen = [_known(name) for name in names]
    address = (
        endpoint
        or (os.environ.get("MODELSCOPE_ENDPOINT") if hub is Hub.MODELSCOPE else None)
        or default_endpoint(hub)
    )
    client = HubClient(address, token=os.environ.get(_TOKENS[hub]))
    done = []
    try:
        for known in chosen:
            licence = licence_of(known.terms.value)
            wanted = Wanted(
                hub, address, _repository(known, hub), revision or default_revision(hub)
            )
            if not as_json:
                OUT.print(f"{plain(known.name)}: {plain(licence.title)}. {plain(licence.summary)}")
            with _bars() as step:
                folder = pull_folder(
                    client,
                    wanted,
                    _original(root, known.name),
                    licence=licence,
                    accepted=accept_licence,
                    step=step,
                )
            done.append({"model": known.name, "folder": str(folder)})
            if not as_json:
                OUT.print(f"[green]fetched[/]  {plain(known.name)} into {plain(str(folder))}")
            if then_convert:
                _convert(folder, root / known.name, known.name, quiet=as_json)
    finally:
        client.close()
    if as_json:
        print_json(done)


@models.command("convert")
def convert_model(
    name: Name,
    to: Annotated[Path | None, typer.Option(help="The folder to write.")] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Rewrite a checkpoint as a plain folder; a run that was stopped goes on where it ended."""
    root = _root(data)
    source, target, label = _folders(root, name)
    target = to or target
    _convert(source, target, label, quiet=as_json)
    if as_json:
        print_json({"model": label, "folder": str(target), "kind": read_manifest(target).kind})


@models.command("verify")
def verify_model(
    name: Name,
    original: Annotated[
        Path | None, typer.Option(help="The published folder; default: where pull put it.")
    ] = None,
    converted: Annotated[
        Path | None, typer.Option(help="The converted folder; default: where convert put it.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Labelled pairs, JSON lines {query, passage, label}.")
    ] = None,
    no_probe: Annotated[bool, typer.Option("--no-probe", help="Run no model.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Compare a converted folder with its original; find the reranker's score position."""
    root = _root(data)
    source, target, label = _folders(root, name)
    source, target = original or source, converted or target
    with _models_extra(), _bars() as step:
        if source.is_dir():
            labelled = [] if no_probe else read_pairs(pairs)
            report = verify_folder(source, target, pairs=labelled, probe=not no_probe, step=step)
        else:
            report = Report(len(check_folder(target, step).files), 0, 0, None, None)
    if report.tensors:
        _note_verified(target)
    if as_json:
        print_json(_report(label, report))
        return
    OUT.print(f"[green]sound[/]  {plain(label)}: {report.files} files have their checksums")
    if not report.tensors:
        OUT.print(f"   {plain(str(source))} is not here: nothing was compared with the original")
    else:
        OUT.print(f"   {report.tensors} tensors equal the original's, {report.dequantised} as int4")
    if report.logits is not None:
        OUT.print(f"   logits on the probe differ by {report.logits:.3g} at most")
    if report.decision is not None:
        OUT.print(f"   {plain(report.decision.says)}")


def _convert(source: Path, target: Path, label: str, *, quiet: bool) -> None:
    with _models_extra(), _bars() as step:
        manifest = convert_folder(source, target, name=label, step=step)
    if not quiet:
        OUT.print(
            f"[green]converted[/]  {plain(label)} into {plain(str(target))} "
            f"({manifest.kind}, {len(manifest.files)} files)"
        )


def _row(root: Path, known: "KnownModel") -> Row:
    folder = root / known.name
    return Row(
        name=known.name,
        kind=known.kind.value,
        repositories=dict(known.repositories),
        context=known.context,
        licence=licence_of(known.terms.value).title,
        pulled=is_complete(_original(root, known.name)),
        converted=(folder / MANIFEST).is_file(),
        verified=_is_verified(folder),
    )


def _report(label: str, report: Report) -> dict[str, object]:
    decision = report.decision
    return {
        "model": label,
        "files": report.files,
        "tensors": report.tensors,
        "dequantised": report.dequantised,
        "logits": report.logits,
        "score_position": decision.winner.value if decision and decision.winner else None,
        "auc": {place.value: value for place, value in decision.auc.items()} if decision else None,
        "says": decision.says if decision else None,
    }


def _table() -> "tuple[KnownModel, ...]":
    with _models_extra():
        from models.zhinao.known import known_models

        return known_models()


@contextmanager
def _models_extra() -> Iterator[None]:
    """Say which extra is missing where torch and transformers are not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in {"torch", "transformers", "safetensors", "huggingface_hub"}:
            raise
        raise ModelUnavailable(
            f"{error.name} is not installed: the models need the extra `torch` "
            '(pip install "zhinao-rag[torch]").'
        ) from error


def _repository(known: "KnownModel", hub: Hub) -> str:
    if hub.value not in known.repositories:
        raise NotFound(f"{known.name} is not on {hub.value}: try the other hub with --from.")
    return known.repositories[hub.value]


def _root(data: Path | None) -> Path:
    return load(data=data).data / "models"


def _original(root: Path, name: str) -> Path:
    return root / "original" / name


def _known(name: str) -> "KnownModel":
    for known in _table():
        if known.name.lower() == name.lower():
            return known
    raise NotFound(f"there is no model {name!r}: `zhinao models list` shows the names.")


def _folders(root: Path, name: str) -> tuple[Path, Path, str]:
    """The original, the converted folder and the name of a known model, or of any folder."""
    for known in _table():
        if known.name.lower() == name.lower():
            return _original(root, known.name), root / known.name, known.name
    folder = Path(name)
    if folder.is_dir():
        label = folder.resolve().name
        return folder, root / label, label
    raise NotFound(
        f"there is no model and no folder {name!r}: `zhinao models list` shows the names."
    )


def _is_verified(folder: Path) -> bool:
    try:
        note = json.loads((folder / VERIFIED).read_text("utf-8"))
        return bool(note["manifest"] == _manifest_digest(folder))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _note_verified(folder: Path) -> None:
    when = datetime.now(UTC).isoformat(timespec="seconds")
    note = {"manifest": _manifest_digest(folder), "verified": when}
    write_text(folder / VERIFIED, json.dumps(note))


def _manifest_digest(folder: Path) -> str:
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """One bar on the terminal a file or stage; nothing where there is no terminal."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=ERR, transient=True, disable=not ERR.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def step(what: str, done: int, size: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=size or None)
            progress.update(tasks[what], completed=done, total=size or None)

        yield step
