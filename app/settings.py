"""Settings: environment variables with the prefix ZHINAO_, frozen, unknown names refused."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.errors import InvalidInput

PREFIX = "ZHINAO_"
# Read by the tests and by child processes; not settings of the application.
_OTHERS = ("ZHINAO_TEST_", "ZHINAO_API_URL", "ZHINAO_URL")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChatSettings(_Frozen):
    """Which chat model writes the answers; `none` quotes the documents' own sentences instead.

    `remote` needs `url` and `name`; `gguf` needs `path`.
    """

    kind: Literal["none", "remote", "gguf"] = "none"
    url: str | None = None
    name: str | None = None
    api_key: SecretStr | None = None
    context_tokens: Annotated[int, Field(ge=1024)] = 8192
    tokenizer: Path | None = None
    path: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "remote" and not (self.url and self.name):
            raise ValueError("a remote chat model needs ZHINAO_CHAT__URL and ZHINAO_CHAT__NAME")
        if self.kind == "gguf" and not self.path:
            raise ValueError("a GGUF chat model needs ZHINAO_CHAT__PATH")
        return self


class Settings(BaseSettings):
    """Everything that can be set. `data` is the one folder that holds everything."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        populate_by_name=True,
    )

    profile: Literal["embedded"] = "embedded"
    data: Path = Path("data")
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    redis_url: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("REDIS_URL", "redis_url")
    )
    database_url: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("DATABASE_URL", "database_url")
    )
    chat: ChatSettings = ChatSettings()
    max_upload_mb: Annotated[int, Field(ge=1)] = 200
    worker_processes: Annotated[int, Field(ge=1)] = max(1, min(4, os.cpu_count() or 1))
    samples: bool = True

    @property
    def database(self) -> str:
        """The SQLAlchemy URL: DATABASE_URL, else SQLite in the data folder."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data.resolve() / 'zhinao.db'}"


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
