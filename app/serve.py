"""`zhinao serve`: Redis, workers, API and page in one go; one Ctrl-C ends them all."""

import asyncio
import fcntl
import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn

from app.children import Children, Program
from app.disk import FREE_BYTES
from app.main import create_app
from app.page import Page
from app.queue import CeleryQueue, worker_name
from app.redis import SOCKET, redis_command, redis_url
from app.samples import add_samples
from app.scratch import scratch
from app.settings import Settings
from app.state import State
from app.stop import Stop
from app.uploads import sweep
from app.watchdog import Watchdog
from app.wiring import build_services
from app.wiring_models import prepare_models
from indexer.folders import Folders
from indexer.index.hold import sweep_held
from indexer.jobs.kinds import Queue
from indexer.sql.database import Database
from pipeline.errors import InvalidInput, Unavailable

_EMBED_S = 2 * 60 * 60
"""How long one attempt at a file may take beside its reading, which has a limit of its own. Then its process is killed,
and the job is given back when its lease is over: a file that never ends costs five attempts and is dead then.
"""
_SILENT = {"ORT_DISABLE_TELEMETRY": "1"}
"""onnxruntime reports its use to its maker over the network, unless this is set before it is imported."""
_REDIS_S = 10.0
_log = logging.getLogger("zhinao.serve")


def serve(settings: Settings, *, worker: bool, page: bool) -> None:
    """Run until a signal, then leave nothing behind. Raises RagErrors that say what keeps it from starting."""
    os.environ.update(_SILENT)
    with ExitStack() as stack:
        children = Children()
        folder = stack.enter_context(scratch())
        stop = stack.enter_context(Stop(partial(_at_once, children, folder)))
        listening = stack.enter_context(_listen(settings.host, settings.port))
        stack.enter_context(own(settings.data))
        sweep(Folders(settings.data.resolve()))
        sweep_held(Folders(settings.data.resolve()))
        _say("preparing the embedding model …")
        prepare_models(settings)
        stack.callback(children.stop)
        broker = _broker(settings, folder, children)
        programs = {q: worker_program(settings, broker, q, scratch=folder) for q in Queue}
        if worker:
            children.start(programs[Queue.INGEST])  # the others when there is something for them
        _say("loading models …")
        services = build_services(settings)
        stack.callback(services.close)
        queue = CeleryQueue(broker)
        stack.callback(queue.close)
        watchdog = Watchdog(children, programs, services.core.database, queue) if worker else None
        state = State(services, queue, children, watchdog)
        if worker and settings.samples and (added := add_samples(state)):
            _say(f"adding {added} sample documents; they answer in a moment …")
        asyncio.run(_run(state, listening, stop, page=page))


def work(settings: Settings, broker: str, queues: Iterable[Queue]) -> None:
    """Run the workers of some queues, each with its processes, until a signal; then leave nothing behind."""
    os.environ.update(_SILENT)
    with ExitStack() as stack:
        children = Children()
        folder = stack.enter_context(scratch())
        stop = stack.enter_context(Stop(partial(_at_once, children, folder)))
        stack.callback(children.stop)
        programs = {q: worker_program(settings, broker, q, scratch=folder) for q in queues}
        for program in programs.values():
            children.start(program)
        database = stack.enter_context(closing(Database(settings.database)))
        messages = stack.enter_context(closing(CeleryQueue(broker)))
        watchdog = Watchdog(children, programs, database, messages)
        until = Signal()
        stop.of(until)
        watch(watchdog.look, until)


@dataclass(slots=True)
class Signal:
    """What a stop sets."""

    should_exit: bool = False


def watch(look: Callable[[], None], until: Signal) -> None:
    """Look again and again, whatever a look meets: the workers go on without one."""
    while not until.should_exit:
        try:
            look()
        except Unavailable as error:
            _log.warning("%s", error)
        except Exception:  # noqa: BLE001  (an entry point: the loop must go on)
            _log.exception("a look at the workers failed")
        time.sleep(0.2)


def worker_program(
    settings: Settings,
    broker: str,
    queue: Queue = Queue.INGEST,
    *,
    scratch: Path | None = None,
    job_limit_s: int | None = None,
) -> Program:
    """A Celery worker, with the settings of this process in its environment and its temporary files in `scratch`."""
    processes = {
        Queue.INGEST: settings.worker_processes,
        Queue.INDEX: settings.index_processes,
        Queue.TRAIN: settings.train_processes,
    }[queue]
    # Making an index anew and training may take days; a lease alone bounds them.
    most = job_limit_s or settings.parser.document_seconds + _EMBED_S
    limit = ("--time-limit", str(most)) if queue is Queue.INGEST else ()
    return Program(
        worker_name(queue),
        [
            *(sys.executable, "-m", "celery", "--quiet", "-A", "workers.main", "worker"),
            *("--queues", queue.value, "--concurrency", str(processes), "--loglevel", "WARNING"),
            *("--hostname", f"{queue.value}@%h"),
            *limit,
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ],
        {
            "REDIS_URL": broker,
            "ZHINAO_DATA": str(settings.data.resolve()),
            "OMP_NUM_THREADS": "1",
            **_SILENT,
            **({"TMPDIR": str(scratch)} if scratch else {}),
        },
        nice=10,
        silent=True,
    )


class _Server(uvicorn.Server):
    """Leaves the signals to us: uvicorn raises them again at its end, past all that is still to be closed."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def _run(state: State, listening: socket.socket, stop: Stop, *, page: bool) -> None:
    settings = state.services.core.settings
    url = f"http://{_reachable(settings.host)}:{settings.port}"
    shown = Page(url) if page else None
    app = create_app(state, page=shown)
    server = _Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
    stop.of(server)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110  (uvicorn has no event for it)
            await asyncio.sleep(0.05)
        if not serving.done() and not server.should_exit:
            if shown is not None:
                shown.start()
            _say(f"Zhinao RAG is ready at {url}  (Ctrl-C stops it)")
        await serving
    finally:
        if shown is not None:
            await shown.stop()


def _at_once(children: Children, folder: Path) -> None:
    children.kill()
    shutil.rmtree(folder, ignore_errors=True)


def _broker(settings: Settings, folder: Path, children: Children) -> str:
    """The URL of the Redis that is set, or of one that is started here and writes its log into `folder`."""
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    log = folder / "redis.log"
    children.start(Program("redis", [*redis_command(folder), "--logfile", str(log)], silent=True))
    _await_socket(folder / SOCKET, log)
    return redis_url(folder)


def _await_socket(path: Path, log: Path) -> None:
    end = time.monotonic() + _REDIS_S
    while time.monotonic() < end:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                time.sleep(0.02)
            else:
                return
    said = log.read_text("utf-8", "replace").splitlines()[-1:] if log.exists() else []
    raise Unavailable(
        "Redis did not start in 10 s: start one yourself and set REDIS_URL"
        + "".join(f" (it said: {line.strip()})" for line in said)
    )


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    """The socket, bound before anything else is started."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise InvalidInput(
            f"port {port} on {host} is not free ({error.strerror}): stop what uses it, or choose another with --port"
        ) from error
    with listening:
        yield listening


@contextmanager
def own(data: Path) -> Iterator[None]:
    """The data folder is ours alone, and has room."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = (data / "serve.lock").open("w")
    except OSError as error:
        raise InvalidInput(
            f"the data folder {data} cannot be written ({error.strerror}): choose another with --data"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InvalidInput(
                f"another server uses the data folder {data}: stop it, or choose another folder with --data"
            ) from error
        if shutil.disk_usage(data).free < FREE_BYTES:
            raise Unavailable(
                f"less than 500 MiB are free at {data.resolve()}: free some disk space, then start again"
            )
        yield


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (the command's own output)
