"""Staged files: the embedded rows of one document version, waiting for the publisher."""

import contextlib
import os
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DamagedIndex, Unavailable
from pipeline.types import Script

SCRIPTS = tuple(Script)
"""A row's script is stored as its place in this tuple."""


@dataclass(frozen=True, slots=True, eq=False)
class Staged:
    """The rows of one document version, without keys.

    `vectors` (n, dim) float16; `tokens` one int8 array (t, token_dim) a row, or None; `scripts` one
    a row.
    """

    vectors: NDArray[np.float16]
    tokens: tuple[NDArray[np.int8], ...] | None
    scripts: tuple[Script, ...]

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.dtype != np.float16:
            raise ValueError("staged vectors are float16 of shape (rows, dim)")
        if len(self.scripts) != len(self) or len(self.tokens or self.scripts) != len(self):
            raise ValueError("every staged row has one script and one array of tokens")
        for codes in self.tokens or ():
            if codes.dtype != np.int8 or codes.ndim != 2:
                raise ValueError("staged tokens are int8 of shape (tokens, token_dim)")

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def token_dim(self) -> int | None:
        """The width of the token vectors, None where there are none."""
        return self.tokens[0].shape[1] if self.tokens else None

    @property
    def token_lengths(self) -> NDArray[np.int64]:
        """Token vectors of each row (n,), 0 where there are none."""
        if self.tokens is None:
            return np.zeros(len(self), np.int64)
        return np.array([len(codes) for codes in self.tokens], np.int64)

    @property
    def script_codes(self) -> NDArray[np.uint8]:
        """The place of each row's script in SCRIPTS (n,)."""
        return np.array([SCRIPTS.index(script) for script in self.scripts], np.uint8)


def write_staged(path: Path, staged: Staged) -> None:
    """Write the rows so that the file is there whole or not at all. Raises Unavailable when the
    disk refuses.
    """
    arrays: dict[str, Any] = {"vectors": staged.vectors, "scripts": staged.script_codes}
    if staged.tokens is not None:
        arrays["lengths"] = staged.token_lengths
        arrays["tokens"] = np.concatenate(
            [*staged.tokens, np.empty((0, staged.token_dim or 0), np.int8)]
        )
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with beside.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        fsync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise Unavailable(
            f"the embedded rows cannot be written ({error.strerror}): free some disk space"
        ) from error


def read_staged(path: Path) -> Staged:
    """Read what `write_staged` wrote. Raises DamagedIndex when it is broken, FileNotFoundError when
    it is gone.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            tokens = None
            if "tokens" in arrays:
                ends = np.cumsum(arrays["lengths"])[:-1]
                tokens = tuple(np.split(arrays["tokens"], ends)) if len(arrays["lengths"]) else ()
            scripts = tuple(SCRIPTS[code] for code in arrays["scripts"])
            return Staged(arrays["vectors"], tokens, scripts)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedIndex(
            f"the embedded rows in {path.name} are broken: upload the document again"
        ) from error


def fsync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
