"""`zhinao cancel` and `retry`: what became of each job that is named, whatever became of the others."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import typer
from pydantic import BaseModel

from app.calls import Json, Kinds, Some, Url, call
from app.job_schemas import CancelledOut
from app.problems import ApiProblem
from app.terminal import ERR, OUT, fail, plain, print_json

Ids = Annotated[list[str], typer.Argument(help="Ids of jobs; `zhinao jobs` lists them.")]
Reply = TypeVar("Reply", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Tried(Generic[Reply]):
    """A job that is named, and what the API answered: a reply, or the sentence why nothing was done."""

    id: str
    reply: Reply | None
    error: str | None


def cancel(job_ids: Ids, url: Url = None, as_json: Json = False) -> None:
    """Stop jobs; nothing of them can be found afterwards, and they can be retried."""
    tried = call(url, lambda api: _each(job_ids, api.cancel))
    if as_json:
        nothing: dict[str, Any] = {"job": None, "cancelled": 0}
        print_json([_shown(one, one.reply.model_dump() if one.reply else nothing) for one in tried])
    else:
        _tell(tried, _cancelled)
        OUT.print(f"cancelled {sum(one.reply.cancelled for one in tried if one.reply)}")
    _end(tried)


def retry(
    job_ids: Annotated[list[str] | None, typer.Argument(help="Ids of jobs.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that failed or died.")] = False,
    collection: Some = None,
    kind: Kinds = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Queue jobs again that failed, died or were cancelled."""
    if bool(job_ids) == failed or ((collection or kind) and not failed):
        fail("name jobs, or say --failed (with --collection or --kind for some of them)")
    if failed:
        every = call(url, lambda api: api.retry_all(collection, kinds=kind or ()))
        _say_retried(every.retried, {}, as_json=as_json)
        return
    tried = call(url, lambda api: _each(job_ids or (), api.retry))
    if not as_json:
        _tell(tried, lambda _: "queued again")
    jobs = [_shown(one, {"job": one.reply and one.reply.model_dump()}) for one in tried]
    _say_retried(sum(one.reply is not None for one in tried), {"jobs": jobs}, as_json=as_json)
    _end(tried)


async def _each(
    job_ids: Sequence[str], act: Callable[[str], Awaitable[Reply]]
) -> list[Tried[Reply]]:
    """One after the other, in the order given: an archive's job may end those of its files."""
    tried: list[Tried[Reply]] = []
    for job_id in job_ids:
        try:
            tried.append(Tried(job_id, await act(job_id), None))
        except ApiProblem as problem:
            tried.append(Tried(job_id, None, problem.detail))
    return tried


def _tell(tried: Sequence[Tried[Reply]], said: Callable[[Reply], str]) -> None:
    for one in tried:
        if one.reply is None:
            ERR.print(f"[red]error:[/] {plain(f'{one.id}: {one.error}')}")
        elif len(tried) > 1:
            OUT.print(f"{plain(one.id)}: {said(one.reply)}")


def _cancelled(reply: CancelledOut) -> str:
    if reply.cancelled > 1:
        return f"cancelled, and {reply.cancelled - 1} jobs of its files"
    return "cancelled" if reply.cancelled else "was cancelled before"


def _shown(tried: Tried[Reply], reply: dict[str, Any]) -> dict[str, Any]:
    return {"id": tried.id, **reply, "error": tried.error}


def _say_retried(count: int, more: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json({"retried": count, **more})
    else:
        OUT.print(f"queued {count} again")


def _end(tried: Sequence[Tried[Reply]]) -> None:
    if any(one.error is not None for one in tried):
        raise typer.Exit(1)
