"""Settings: environment variables with the prefix ZHINAO_, frozen, unknown names refused."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from indexer.text.chunk import Chunking
from indexer.web.addresses import parse_networks
from pipeline.errors import InvalidInput

PREFIX = "ZHINAO_"
# Read by the tests and by child processes; not settings of the application.
_OTHERS = ("ZHINAO_TEST_", "ZHINAO_API_URL", "ZHINAO_URL")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Place(_Frozen):
    """Where a model runs: in this process from `folder` on `device`, or behind a `url`.

    `device` is cpu, cuda, cuda:1, ... or auto (a GPU where there is one; in the profile gpu there
    must be one). What is set says the kind, unless `kind` does.
    """

    folder: Path | None = None
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    url: str | None = None
    name: str | None = None
    api_key: SecretStr | None = None

    @property
    def key(self) -> str | None:
        return self.api_key.get_secret_value() if self.api_key else None


class EmbedderSettings(Place):
    """Which embedder makes the vectors; `bundled` is the one that comes along.

    A `remote` one counts tokens by `tokenizer`, the model's tokenizer.json. `instruction` stands
    before each query (unset: the one of 360Zhinao-search for a model of that name); `input_type`
    tells the server which texts are queries, as Cohere's and Jina's want to know.
    """

    role: ClassVar[str] = "embedder"

    kind: Literal["bundled", "folder", "remote"] = "bundled"
    batch_tokens: Annotated[int, Field(ge=512)] = 8192
    dim: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=64)] = 512
    tokenizer: Path | None = None
    instruction: str | None = None
    input_type: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _inferred(cls, given: object) -> object:
        return _with_kind(given, folder="folder", url="remote")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _placed(self.role, self.kind, self)
        if self.kind == "remote" and not self.tokenizer:
            raise ValueError(
                f"a remote embedder needs {PREFIX}{self.role.upper()}__TOKENIZER, the path of the "
                "model's tokenizer.json"
            )
        return self


class NextEmbedderSettings(EmbedderSettings):
    """The embedder that collections are re-indexed with, here beside the one that they are searched by until then."""

    role: ClassVar[str] = "next_embedder"


class ChunkingSettings(_Frozen):
    """Sizes of passages in the embedder's tokens (indexer/text/chunk.py): of what is indexed from now on in new
    collections, and of all that is re-indexed.
    """

    aim: Annotated[int, Field(ge=20, le=4000)] = Chunking().aim
    most: Annotated[int, Field(ge=60, le=8000)] = Chunking().most
    least: Annotated[int, Field(ge=0, le=2000)] = Chunking().least

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.least <= self.aim < self.most:
            raise ValueError(
                f"the sizes {self.least}, {self.aim} and {self.most} are out of order: LEAST is at most AIM, and AIM "
                "is below MOST"
            )
        return self


class RerankerSettings(Place):
    """Which reranker orders the best hits; `bundled` compares token vectors, where there are any.

    A `remote` one is asked in Jina's shape (`/v1/rerank`) or TEI's (`/rerank`); `logits` says that
    its scores are raw, so that the sigmoid is taken here.
    """

    kind: Literal["bundled", "folder", "remote"] = "bundled"
    batch_tokens: Annotated[int, Field(ge=512)] = 8192
    max_tokens: Annotated[int, Field(ge=128)] = 1024
    shape: Literal["jina", "tei"] = "jina"
    logits: bool = False

    @model_validator(mode="before")
    @classmethod
    def _inferred(cls, given: object) -> object:
        return _with_kind(given, folder="folder", url="remote")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _placed("reranker", self.kind, self)
        return self


class ChatSettings(Place):
    """Which chat model writes the answers; `none` quotes the documents' own sentences instead.

    `remote` needs `url` and `name`; `gguf` needs `path`; `folder` is a 360Zhinao or Qwen2 folder.
    Without `context_tokens` a server is asked for what it takes, a folder gives what the model was
    trained for, and a GGUF file 8192.
    """

    kind: Literal["none", "remote", "gguf", "folder"] = "none"
    context_tokens: Annotated[int, Field(ge=1024)] | None = None
    tokenizer: Path | None = None
    path: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _inferred(cls, given: object) -> object:
        return _with_kind(given, folder="folder", path="gguf", url="remote")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _placed("chat", self.kind, self)
        if self.kind == "gguf" and not self.path:
            raise ValueError("a GGUF chat model needs ZHINAO_CHAT__PATH")
        return self


class ParserSettings(_Frozen):
    """How files are read, and what one file may cost (indexer/parse/limits.py says of each limit what it holds for).

    The engine `layout` also looks at the pages of PDFs with a model, the ONNX file `layout_model`
    (indexer/parse/layout.py); its model needs a `memory_mb` of about 4,000. `children` processes may work on one
    file together, while they hold less than `total_mb` of memory: a scanned page counts as 700 MB.
    """

    engine: Literal["plain", "layout"] = "plain"
    layout_model: Path | None = None
    children: Annotated[int, Field(ge=1, le=64)] = max(1, min(4, os.cpu_count() or 1))
    total_mb: Annotated[int, Field(ge=100)] = 1_000
    memory_mb: Annotated[int, Field(ge=200)] = 1_000
    cpu_seconds: Annotated[int, Field(ge=1)] = 120
    seconds: Annotated[int, Field(ge=1)] = 300
    document_seconds: Annotated[int, Field(ge=1)] = 4 * 3600
    pages: Annotated[int, Field(ge=1)] = 5_000
    unpacked_mb: Annotated[int, Field(ge=1)] = 500
    nesting: Annotated[int, Field(ge=10, le=250)] = 200  # libxml2 reads 256 levels of HTML
    open_files: Annotated[int, Field(ge=64)] = 256
    written_mb: Annotated[int, Field(ge=1)] = 600
    result_mb: Annotated[int, Field(ge=1)] = 256
    files: Annotated[int, Field(ge=1)] = 200


class FetchSettings(_Frozen):
    """How URLs are fetched. `allow_private` are private networks that may be asked: "10.0.0.0/8, 192.168.1.7"."""

    allow_private: str = ""
    seconds: Annotated[float, Field(gt=0, le=600)] = 30.0

    @field_validator("allow_private")
    @classmethod
    def _networks(cls, given: str) -> str:
        parse_networks(given)
        return given


class IndexSettings(_Frozen):
    """Where collections are searched. With the backend `milvus`, those that are begun from now on are in Milvus.

    `milvus_url` is http://HOST:19530, `milvus_token` USER:PASSWORD; installations that share a Milvus have different
    prefixes. The URL is also needed where only some collections were moved there. `milvus_dense_index` is the type of
    the vectors' index: AUTOINDEX, HNSW, or DISKANN where they do not fit into memory.

    With FAISS, large segments are searched in lists that reach `recall` among the best 10, as measured when they are
    written. On the `device` cuda all segments are held by the GPUs; without one nothing starts, and what does not fit
    is an error, unless `fallback` lets the CPU search instead.
    """

    backend: Literal["faiss", "milvus"] = "faiss"
    recall: Annotated[float, Field(ge=0.5, le=1.0)] = 0.97
    device: Literal["cpu", "cuda"] = "cpu"
    fallback: bool = False
    milvus_url: str | None = None
    milvus_token: SecretStr = SecretStr("")
    milvus_prefix: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]{0,30}$")] = "zhinao"
    milvus_dense_index: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] = "AUTOINDEX"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.backend == "milvus" and not self.milvus_url:
            raise ValueError(f"the backend milvus needs {PREFIX}INDEX__MILVUS_URL")
        return self


class BackupSettings(_Frozen):
    """Where `POST /jobs/backup` and schedules put backups, and how many are kept (all, unless set).

    `zhinao backup` names its folder itself.
    """

    folder: Path | None = None
    keep: Annotated[int, Field(ge=1)] | None = None


class QueriesSettings(_Frozen):
    """What is remembered of searches, so that a re-index can be judged by them: the last `kept` different queries of
    each collection, for `days` days. With `kept` 0 nothing is, and what was remembered is removed.
    """

    kept: Annotated[int, Field(ge=0, le=10_000)] = 200
    days: Annotated[int, Field(ge=1, le=3650)] = 90


def _with_kind(given: object, **kinds: str) -> object:
    """The kind that follows from what is set; two places at once are left for an error."""
    if not isinstance(given, dict) or given.get("kind") is not None:
        return given
    found = [name for name in kinds if given.get(name) is not None]
    if len(found) > 1:
        raise ValueError(f"{' and '.join(found)} are set: choose one, or say the kind")
    return {**given, "kind": kinds[found[0]]} if found else given


def _placed(role: str, kind: str, place: Place) -> None:
    prefix = f"{PREFIX}{role.upper()}__"
    name = "chat model" if role == "chat" else role.removeprefix("next_")
    what = f"{'an' if name == 'embedder' else 'a'} {name}"
    remote = f"a remote {name}"
    if kind == "remote" and not (place.url and place.name):
        raise ValueError(f"{remote} needs {prefix}URL and {prefix}NAME")
    if kind == "folder" and not place.folder:
        raise ValueError(f"{what} in this process needs {prefix}FOLDER")


_GPU_DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "embedder": {"url": "http://models:8080/v1", "name": "360Zhinao-search"},
    "reranker": {"url": "http://models:8080/v1", "name": "360Zhinao-1.8B-Reranking"},
    "chat": {"url": "http://vllm-chat:8000/v1", "name": "360Zhinao-7B-Chat-360K"},
}
"""The services of docker-compose.yml."""


class Settings(BaseSettings):
    """Everything that can be set. `data` is the one folder that holds everything.

    The profile `gpu` reaches the three models at the services of docker-compose.yml, unless a
    model is set otherwise; it never falls back to another model or to the CPU.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        populate_by_name=True,
    )

    profile: Literal["embedded", "gpu"] = "embedded"
    data: Path = Path("data")
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    redis_url: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("REDIS_URL", "redis_url")
    )
    database_url: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("DATABASE_URL", "database_url")
    )
    embedder: EmbedderSettings = EmbedderSettings()
    next_embedder: NextEmbedderSettings | None = None
    chunking: ChunkingSettings = ChunkingSettings()
    reranker: RerankerSettings = RerankerSettings()
    chat: ChatSettings = ChatSettings()
    parser: ParserSettings = ParserSettings()
    fetch: FetchSettings = FetchSettings()
    index: IndexSettings = IndexSettings()
    backup: BackupSettings = BackupSettings()
    queries: QueriesSettings = QueriesSettings()
    max_upload_mb: Annotated[int, Field(ge=1)] = 200
    worker_processes: Annotated[int, Field(ge=1)] = max(1, min(4, os.cpu_count() or 1))
    index_processes: Annotated[int, Field(ge=1)] = 1
    train_processes: Annotated[int, Field(ge=1)] = 1
    watch_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    samples: bool = True

    @field_validator("watch_roots", mode="before")
    @classmethod
    def _roots(cls, given: object) -> object:
        """Directories that may be watched, parted by colons."""
        roots = [Path(one) for one in given.split(":") if one] if isinstance(given, str) else given
        if isinstance(roots, list | tuple) and not all(Path(one).is_absolute() for one in roots):
            raise ValueError("name directories by their full paths, parted by colons")
        return roots

    @model_validator(mode="before")
    @classmethod
    def _services(cls, given: dict[str, Any]) -> dict[str, Any]:
        if given.get("profile") != "gpu":
            return given
        return {**given, **{role: _in_gpu_profile(role, given) for role in _GPU_DEFAULTS}}

    @property
    def database(self) -> str:
        """The SQLAlchemy URL: DATABASE_URL, else SQLite in the data folder."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data.resolve() / 'zhinao.db'}"


def _in_gpu_profile(role: str, given: Mapping[str, Any]) -> object:
    own = given.get(role) or {}
    if not isinstance(own, dict):
        return own
    elsewhere = own.get("kind") not in (None, "remote") or own.get("folder") or own.get("path")
    if elsewhere:
        return {**own, "device": own.get("device", "cuda")}
    defaults: dict[str, object] = dict(_GPU_DEFAULTS[role])
    if role == "embedder":
        models = Path(given.get("data") or Path("data")) / "models"
        defaults["tokenizer"] = models / str(own.get("name", defaults["name"])) / "tokenizer.json"
    return {**defaults, **own}


def load(environment: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:  # noqa: ANN401
    """The settings of this process. Raises InvalidInput naming the variable that is wrong."""
    fields = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    for name in environment:
        known = name.split("__")[0].upper() in fields or name.startswith(_OTHERS)
        if name.startswith(PREFIX) and not known:
            raise InvalidInput(f"{name} is no setting: the names are {', '.join(sorted(fields))}")
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = "__".join(str(part).upper() for part in first["loc"])
        raise InvalidInput(f"the setting {PREFIX}{name} is wrong: {first['msg']}") from error
