"""`zhinao serve-model`: the models' `/v1` endpoints in one process, without a database or documents."""

import contextlib
import importlib.util
import os
import shlex
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Literal

import uvicorn
from fastapi import FastAPI

from app import errors, openai_errors
from app.routes import openai, openai_vectors
from app.served import Served, embedder_name, reranker_name
from app.settings import ChatSettings, Settings
from app.wiring_models import Models, build_models
from pipeline.errors import InvalidInput

ROLES = ("embed", "rerank", "chat")
Engine = Literal["auto", "vllm", "transformers"]


def serve_models(settings: Settings, roles: Sequence[str], *, engine: Engine = "auto") -> None:
    """Run until a signal. Raises InvalidInput and ModelUnavailable with what keeps it from starting.

    `chat` alone becomes vLLM with the engine vllm, and with auto where vLLM is installed and the
    chat model is a folder; otherwise it runs in this process.
    """
    chosen = checked(roles)
    if "chat" in chosen and settings.chat.kind == "none":
        raise InvalidInput("no chat model is set: set ZHINAO_CHAT__FOLDER to the folder of one")
    if _by_vllm(settings.chat, chosen, engine):
        _become(vllm_words(settings))
    _say(f"loading {', '.join(sorted(chosen))} …")
    models = build_models(settings, chosen)
    try:
        server = build_server(served(settings, models, chosen))
        _say(f"the models answer at http://{settings.host}:{settings.port}/v1  (Ctrl-C stops it)")
        uvicorn.run(server, host=settings.host, port=settings.port, log_level="warning")
    finally:
        for close in models.closing:
            close()


def checked(roles: Sequence[str]) -> frozenset[str]:
    """The roles; InvalidInput for one that there is not, and for none."""
    unknown = [role for role in roles if role not in ROLES]
    if unknown or not roles:
        named = f"there is no role “{unknown[0]}”" if unknown else "no role is named"
        raise InvalidInput(f"{named}: use one or more of {', '.join(ROLES)}")
    return frozenset(roles)


def served(settings: Settings, models: Models, roles: frozenset[str]) -> Served:
    """What the endpoints find. An embedder that only serves the reranker has no name to be asked by."""
    return Served(
        embedder=models.embedder,
        embedder_name=embedder_name(settings.embedder) if "embed" in roles else "",
        reranker=models.reranker,
        reranker_name=reranker_name(settings.reranker),
        chat=models.chat,
    )


def build_server(models: Served) -> FastAPI:
    """The endpoints on these models, with `/health/live` and `/health/ready`."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        if models.chat is not None:
            await models.chat.aclose()

    app = FastAPI(title="Zhinao models", version="0.1.0", lifespan=lifespan, redoc_url=None)
    app.state.served = models

    @app.get("/health/live", tags=["health"])
    async def live() -> dict[str, bool]:
        """The process answers."""
        return {"live": True}

    @app.get("/health/ready", tags=["health"])
    async def ready() -> dict[str, object]:
        """The models are loaded: before, this server answers no call."""
        return {"ready": True, "models": models.models}

    app.include_router(openai.router)
    app.include_router(openai_vectors.router)
    errors.install(app)
    openai_errors.install(app)
    return app


def vllm_words(settings: Settings) -> list[str]:
    """The command line that prints and runs `vllm serve` for the chat model."""
    chat = settings.chat
    if chat.kind != "folder" or chat.folder is None:
        raise InvalidInput("vLLM needs the folder of a chat model: set ZHINAO_CHAT__FOLDER")
    name = chat.name or chat.folder.name
    where = ["--host", settings.host, "--port", str(settings.port)]
    return [
        sys.executable,
        "-m",
        "models.vllm_serve",
        "chat",
        str(chat.folder),
        "--name",
        name,
        *where,
    ]


def _by_vllm(chat: ChatSettings, roles: frozenset[str], engine: Engine) -> bool:
    if engine == "transformers" or "chat" not in roles:
        return False
    alone = roles == {"chat"}
    if engine == "vllm":
        if not alone:
            raise InvalidInput("vLLM serves chat alone: start embed and rerank by a second command")
        return True
    return alone and chat.kind == "folder" and importlib.util.find_spec("vllm") is not None


def _become(words: Sequence[str]) -> None:
    _say(shlex.join(words))
    os.execv(words[0], list(words))  # noqa: S606


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (the command's own output)
