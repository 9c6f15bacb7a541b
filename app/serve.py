"""`zhinao serve`: Redis, workers, API and page in one go; one Ctrl-C ends them all."""

import asyncio
import fcntl
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvicorn

from app.children import Children, Program
from app.main import create_app
from app.page import Page
from app.queue import INGEST, CeleryQueue
from app.redis import SOCKET, redis_command, redis_url
from app.samples import add_samples
from app.settings import Settings
from app.state import State
from app.wiring import Services, build_services, prepare_models
from pipeline.errors import InvalidInput, Unavailable

_FREE_BYTES = 500 * 2**20
_REDIS_S = 10.0


def serve(settings: Settings, *, worker: bool, page: bool) -> None:
    """Run until a signal. Raises RagErrors with a sentence for what keeps it from starting."""
    with ExitStack() as stack:
        listening = stack.enter_context(_listen(settings.host, settings.port))
        stack.enter_context(_own(settings.data))
        _say("preparing the embedding model …")
        prepare_models(settings)
        children = Children()
        stack.callback(children.stop)
        broker = _broker(settings, stack, children)
        if worker:
            children.start(worker_program(settings, broker))
        _say("loading models …")
        services = build_services(settings)
        stack.callback(services.close)
        queue = CeleryQueue(broker)
        stack.callback(queue.close)
        if worker and settings.samples and (added := add_samples(State(services, queue))):
            _say(f"adding {added} sample documents; they answer in a moment …")
        asyncio.run(_run(settings, services, queue, listening, page=page))


def worker_program(settings: Settings, broker: str) -> Program:
    """The Celery worker, with the settings of this process in its environment."""
    processes = str(settings.worker_processes)
    return Program(
        "worker",
        [
            *(sys.executable, "-m", "celery", "-A", "workers.main", "worker"),
            *("--queues", INGEST, "--concurrency", processes, "--loglevel", "WARNING"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ],
        {
            "REDIS_URL": broker,
            "ZHINAO_DATA": str(settings.data.resolve()),
            "OMP_NUM_THREADS": "1",
        },
        nice=10,
    )


async def _run(
    settings: Settings,
    services: Services,
    queue: CeleryQueue,
    listening: socket.socket,
    *,
    page: bool,
) -> None:
    url = f"http://{_reachable(settings.host)}:{settings.port}"
    shown = Page(url) if page else None
    app = create_app(services, queue, page=shown)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    signal.signal(signal.SIGHUP, lambda *_: setattr(server, "should_exit", True))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not serving.done():  # noqa: ASYNC110  (uvicorn has no event for it)
        await asyncio.sleep(0.05)
    if shown is not None and not serving.done():
        shown.start()
    if not serving.done():
        _say(f"Zhinao RAG is ready at {url}  (Ctrl-C stops it)")
    await serving
    if shown is not None:
        await shown.stop()


def _broker(settings: Settings, stack: ExitStack, children: Children) -> str:
    """The URL of the Redis that is set, or of one that is started here."""
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    folder = Path(tempfile.mkdtemp(prefix="zhinao-redis-"))  # readable by this user only
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    children.start(Program("redis", redis_command(folder)))
    stack.callback(children.stop)
    _await_socket(folder / SOCKET)
    return redis_url(folder)


def _await_socket(path: Path) -> None:
    import time

    end = time.monotonic() + _REDIS_S
    while time.monotonic() < end:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                time.sleep(0.02)
            else:
                return
    raise Unavailable("Redis did not start in 10 s: start one yourself and set REDIS_URL")


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
def _own(data: Path) -> Iterator[None]:
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
        if shutil.disk_usage(data).free < _FREE_BYTES:
            raise Unavailable(
                f"less than 500 MiB are free at {data.resolve()}: free some disk space, then start again"
            )
        yield


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (the command's own output)
