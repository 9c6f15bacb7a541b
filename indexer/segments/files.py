"""The files of a segment, written beside their place, fsynced and renamed: whole or not there at all.

keys.npy            int64 (n,), ascending
vectors.npy         float16 (n, dim), the raw vectors
ivf.index           of a large segment: inverted lists over the same rows (indexer/segments/ivf.py)
scripts.npy         uint8 (n,), places in SCRIPTS
sums.npy            float64 (scripts, dim), sum of the vectors of each script
tokens.npy          int8 (sum of tokens, token_dim), where token vectors are stored
token_offsets.npy   int64 (n + 1,), where each row's tokens begin
manifest.json       format, fingerprint, dimensions, counts, type of the index with its measured recall, size and
                    SHA-256 of every file

Format 1 held `faiss.index`, a copy of the raw vectors that is not read any more.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from indexer.segments.ivf import DEFAULT_RULE, IndexRule, build_ivf
from indexer.segments.staged import SCRIPTS, fsync_folder
from pipeline.errors import DamagedIndex, IndexMismatch, Unavailable
from pipeline.types import Keys

FORMAT = 2
READABLE = (1, 2)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What is written: arrays of n rows, and streams in the same order.

    `vectors` yields float16 blocks (m, dim), n rows together; `tokens` yields int8 (t, token_dim) for
    every row that has some. `lengths` (n,) counts each row's tokens. Both streams are read once.
    """

    keys: Keys
    scripts: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    dim: int
    token_dim: int | None
    vectors: Iterable[NDArray[np.float16]]
    tokens: Iterable[NDArray[np.int8]]


def write_files(
    folder: Path, rows: Rows, *, fingerprint: str, rule: IndexRule = DEFAULT_RULE
) -> None:
    """Write a segment's folder, with the index that `rule` gives to its size.

    Raises Unavailable when the disk refuses, FileExistsError when the folder is there already.
    """
    if folder.exists():
        raise FileExistsError(f"segment {folder.name} is there already")
    if len(rows.keys) > 1 and not (np.diff(rows.keys) > 0).all():
        raise ValueError("the keys of a segment ascend strictly")
    beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    try:
        beside.mkdir(parents=True)
        counts = _write_arrays(beside, rows)
        index: dict[str, Any] = {"type": "flat"}
        if len(rows.keys) > rule.flat_rows:
            index = build_ivf(beside, load_array(beside, "vectors", mapped=True), rule)
        manifest = {
            "format": FORMAT,
            "fingerprint": fingerprint,
            "rows": len(rows.keys),
            "dim": rows.dim,
            "token_dim": rows.token_dim,
            "tokens": int(rows.lengths.sum()),
            "scripts": [script.value for script in SCRIPTS],
            "counts": counts.tolist(),
            "index": index,
            "files": {path.name: _sealed(path) for path in sorted(beside.iterdir())},
        }
        _write_synced(beside / "manifest.json", json.dumps(manifest, indent=1).encode())
        fsync_folder(beside)
        beside.rename(folder)
        fsync_folder(folder.parent)
    except OSError as error:
        raise Unavailable(
            f"the index cannot be written ({error.strerror or error}): free some disk space"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def read_manifest(folder: Path, fingerprint: str) -> dict[str, Any]:
    """The manifest, read and compared. Raises IndexMismatch when another embedder or version wrote
    it, DamagedIndex when the segment is gone or its manifest cannot be read.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
        form, written, scripts = manifest["format"], manifest["fingerprint"], manifest["scripts"]
    except FileNotFoundError as error:
        raise damaged(folder, "it is gone") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(folder, "its manifest cannot be read") from error
    if form not in READABLE or scripts != [script.value for script in SCRIPTS]:
        raise IndexMismatch(
            f"the index was written in format {form}, but this program reads format {FORMAT} and older: "
            "re-index the collection"
        )
    if written != fingerprint:
        raise IndexMismatch(
            f"the index was written by the embedder {written}, but {fingerprint} is set: "
            "re-index the collection, or set the old embedder again"
        )
    return manifest


def check_files(folder: Path, files: Mapping[str, Mapping[str, Any]], *, verify: bool) -> None:
    """Compare sizes, and with `verify` checksums. Raises DamagedIndex."""
    for name, told in files.items():
        path = folder / name
        try:
            size = path.stat().st_size
        except OSError as error:
            raise damaged(folder, f"{name} is missing") from error
        if size != told["size"]:
            raise damaged(folder, f"{name} has {size} bytes, not {told['size']}")
        if verify and _sha256(path) != told["sha256"]:
            raise damaged(folder, f"{name} has changed since it was written")


def load_array(folder: Path, name: str, *, mapped: bool = False) -> NDArray[Any]:
    """One array; `mapped` leaves it on disk. Raises DamagedIndex when it cannot be read."""
    path = folder / f"{name}.npy"
    array: NDArray[Any]
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r" if mapped else None)
    except (OSError, ValueError, EOFError) as error:
        raise damaged(folder, f"{path.name} cannot be read") from error
    return array


def damaged(folder: Path, why: str) -> DamagedIndex:
    """The error for a segment that cannot be trusted."""
    return DamagedIndex(
        f"segment {folder.name} of the index is damaged ({why}): restore it from a backup, or "
        "re-index the collection"
    )


def _write_arrays(folder: Path, rows: Rows) -> NDArray[np.int64]:
    """Everything but the manifest, each stream read once; returns the number of rows a script."""
    n, dim = len(rows.keys), rows.dim
    sums = np.zeros((len(SCRIPTS), dim))
    at = 0
    with (folder / "vectors.npy").open("wb") as file:
        _write_header(file, np.dtype(np.float16), (n, dim))
        for block in rows.vectors:
            file.write(np.ascontiguousarray(block).tobytes())
            vectors = block.astype(np.float32)
            scripts = rows.scripts[at : at + len(block)]
            for code in np.unique(scripts):
                sums[code] += vectors[scripts == code].sum(axis=0, dtype=np.float64)
            at += len(block)
    if at != n or len(rows.scripts) != n or len(rows.lengths) != n:
        raise ValueError(f"{n} keys, but {at} vectors, {len(rows.scripts)} scripts")
    arrays: dict[str, NDArray[Any]] = {
        "keys": rows.keys.astype(np.int64),
        "scripts": rows.scripts,
        "sums": sums,
    }
    if rows.token_dim is not None:
        offsets = np.concatenate([[0], np.cumsum(rows.lengths)]).astype(np.int64)
        arrays["token_offsets"] = offsets
        with (folder / "tokens.npy").open("wb") as file:
            _write_header(file, np.dtype(np.int8), (int(offsets[-1]), rows.token_dim))
            written = sum(
                file.write(np.ascontiguousarray(codes).tobytes()) for codes in rows.tokens
            )
        if written != offsets[-1] * rows.token_dim:
            raise ValueError("the token vectors do not fit the lengths told")
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    return np.bincount(rows.scripts, minlength=len(SCRIPTS)).astype(np.int64)


def _write_header(file: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(file, header)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sealed(path: Path) -> dict[str, Any]:
    """Fsync a written file; its size and checksum."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return {"size": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
