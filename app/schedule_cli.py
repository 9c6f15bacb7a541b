"""`zhinao schedule`."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from app.calls import Json, Url, call
from app.job_schemas import ScheduleOut, ScheduleRequest, zone_of
from app.terminal import OUT, fail, plain, print_json

schedule = typer.Typer(help="Work that begins by the clock.", no_args_is_help=True)


@schedule.command()
def add(
    kind: Annotated[str, typer.Argument(help="watch, expire, reindex, merge or backup.")],
    when: Annotated[
        str,
        typer.Argument(help='"every 15m", "every 6h", "at 03:00" or "at 03:00 on mon,fri".'),
    ],
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="Whose documents; not for a backup.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="For watch: a directory on the server.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(help="For expire: how old a document may become.")
    ] = None,
    zone: Annotated[str, typer.Option(help="The time zone, such as Asia/Shanghai.")] = "UTC",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Have jobs begin by the clock; what was missed while the server was down runs once."""
    payload: dict[str, object] = {}
    if folder is not None:
        payload["folder"] = str(folder)
    if days is not None:
        payload["days"] = days
    of = collection if kind == "backup" else collection or "default"
    given = {"kind": kind, "when": when, "zone": zone, "collection": of, "payload": payload}
    try:
        request = ScheduleRequest.model_validate(given)
    except ValueError:
        fail(f'"{kind}" is not scheduled: use watch, expire, reindex, merge or backup')
    made = call(url, lambda api: api.add_schedule(request))
    _show([made], as_json=as_json)


@schedule.command("list")
def list_(url: Url = None, as_json: Json = False) -> None:
    """List all schedules, the next one first."""
    _show(call(url, lambda api: api.schedules()).schedules, as_json=as_json)


@schedule.command()
def remove(
    schedule_id: Annotated[str, typer.Argument(help="`zhinao schedule list` shows it.")],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Remove a schedule; documents of a watched folder stay."""
    removed = call(url, lambda api: api.remove_schedule(schedule_id))
    if as_json:
        print_json(removed.model_dump())
    else:
        OUT.print(f"removed {plain(removed.id)}")


def _show(rows: list[ScheduleOut], *, as_json: bool) -> None:
    if as_json:
        print_json([row.model_dump() for row in rows])
        return
    ids = (Column(name, no_wrap=True) for name in ("id", "kind"))
    table = Table(*ids, "of", "when, and next", box=SIMPLE_HEAD)
    for row in rows:
        due = datetime.fromtimestamp(row.next, zone_of(row)).strftime("%Y-%m-%d %H:%M")
        told = (f"{name} {_short(value)}" for name, value in row.payload.items())
        of = "\n".join((row.collection, *told))
        table.add_row(row.id, row.kind, plain(of), f"{row.when} {row.zone}\n{due}")
    OUT.print(table)


def _short(value: object) -> object:
    """365.0 days are 365."""
    return f"{value:g}" if isinstance(value, float) else value
