"""Rewrites a published checkpoint as a plain folder that every common loader reads.

A chat model becomes a Qwen2ForCausalLM, the reranker a Qwen2ForSequenceClassification, the
embedder a BertModel with the files of sentence-transformers. Tensors are read, split and written
one at a time. A shard counts once it is complete and its checksum is noted; the folder counts once
its manifest is written.
"""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from models.checkpoint.errors import NotEnoughSpace
from models.checkpoint.manifest import (
    MANIFEST,
    RECIPE,
    FileRecord,
    Manifest,
    Source,
    check_files,
    read_manifest,
    record,
    records,
    write_manifest,
    write_text,
)
from models.checkpoint.plan import Kind, Piece, pack
from models.checkpoint.published import Checkpoint, inspect
from models.checkpoint.pull import RESERVE, revision_of
from models.checkpoint.sidecars import SIDECAR_SOURCES, write_sidecars
from models.checkpoint.source import (
    open_tensors,
)
from models.checkpoint.splitting import part_of
from models.checkpoint.writer import write_tensors
from pipeline.errors import Conflict, ModelUnavailable

if TYPE_CHECKING:
    import torch

SHARD_BYTES = 2_000_000_000
PROGRESS = ".progress.json"
_LOCK = ".lock"
INDEX = "model.safetensors.index.json"

Progress = Callable[[str, int, int], None]
"""Told what is done now, how much of it (bytes or shards), and how much there is."""


def convert(
    source: Path,
    target: Path,
    *,
    name: str,
    step: Progress = lambda _what, _done, _all: None,
    shard_bytes: int = SHARD_BYTES,
    free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
) -> Manifest:
    """Convert `source` into the folder `target`, or go on where a run before was stopped.

    A finished folder of the same source is checked and left. Peak memory is one source tensor
    and its parts, whatever the size of the shards. Raises what `inspect` raises, Conflict where
    `target` holds something else or is being written, NotEnoughSpace, and ModelUnavailable where
    the disk fails. `name` is recorded; `free` gives the bytes free at a path.
    """
    checkpoint = inspect(source)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            return _convert(checkpoint, target, name, step, shard_bytes, free)
    except OSError as error:
        raise ModelUnavailable(
            f"{target} cannot be written ({error.strerror or error}): check its rights and the disk."
        ) from error


def _convert(
    checkpoint: Checkpoint,
    target: Path,
    name: str,
    step: Progress,
    shard_bytes: int,
    free: Callable[[Path], int],
) -> Manifest:
    origin = _origin(checkpoint, name, step)
    if (target / MANIFEST).is_file():
        manifest = read_manifest(target)
        if (manifest.source.files, manifest.recipe) != (origin.files, RECIPE):
            raise Conflict(
                f"{target} holds a model made from other files or by another version: delete it, "
                "or choose another folder."
            )
        check_files(target, manifest.files, lambda file: step(f"checking {file}", 0, 0))
        return manifest
    shards = pack(checkpoint.pieces, shard_bytes)
    names = _shard_names(len(shards))
    done = _finished(target, _digest(origin, shards), names, step)
    sizes = {
        file: sum(piece.target.bytes for piece in shard)
        for file, shard in zip(names, shards, strict=True)
    }
    need = sum(size for file, size in sizes.items() if file not in done)
    if need and free(target) < need + RESERVE:
        raise NotEnoughSpace(
            f"{target} has room for {free(target) / 1e9:.1f} GB, and {(need + RESERVE) / 1e9:.1f} "
            "GB are needed: free some, or convert into a folder on a larger disk."
        )
    for number, (file, shard) in enumerate(zip(names, shards, strict=True)):
        step("converting", number, len(shards))
        if file not in done:
            done[file] = _write_shard(checkpoint, shard, target / file)
            _note(target, _digest(origin, shards), done)
    step("converting", len(shards), len(shards))
    if len(shards) > 1:
        table = {p.target.name: f for f, s in zip(names, shards, strict=True) for p in s}
        fields = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": table}
        write_text(target / INDEX, json.dumps(fields, indent=1, sort_keys=True))
    write_sidecars(
        checkpoint.folder,
        target,
        kind=checkpoint.kind,
        config=checkpoint.config,
        geometry=checkpoint.geometry,
        dtype=_main_dtype(checkpoint.pieces),
        quantisation=checkpoint.quantisation,
        score_offset=checkpoint.score_offset,
    )
    return _finish(target, checkpoint.kind, origin, done)


def _finish(target: Path, kind: Kind, origin: Source, done: dict[str, FileRecord]) -> Manifest:
    others = {
        str(path.relative_to(target)): record(path)
        for path in sorted(target.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and path.name not in done
    }
    manifest = Manifest(RECIPE, kind.value, origin, done | others)
    write_manifest(target, manifest)
    (target / PROGRESS).unlink(missing_ok=True)
    return manifest


def _write_shard(checkpoint: Checkpoint, shard: list[Piece], path: Path) -> FileRecord:
    part = path.with_name(f".{path.name}.part")
    entries = [piece.target for piece in shard]
    written = write_tensors(part, entries, converted(checkpoint, shard))
    part.replace(path)
    return written


def converted(checkpoint: Checkpoint, pieces: list[Piece]) -> Iterator["torch.Tensor"]:
    """The target tensors of pieces, one after another.

    The source file is opened for each of its tensors: pages of a mapped file count as memory until
    it is closed, and would add up to the whole file.
    """
    for (file, name), group in groupby(pieces, key=lambda piece: (piece.file, piece.source)):
        with open_tensors(checkpoint.folder / file) as tensors:
            for piece in group:
                yield part_of(
                    tensors.get(name), piece, checkpoint.geometry, checkpoint.quantisation
                )


def _origin(checkpoint: Checkpoint, name: str, step: Progress) -> Source:
    """The source with the checksum of every file that is used; those of weights are the slow part."""
    folder = checkpoint.folder
    used = [*checkpoint.files, *(one for one in SIDECAR_SOURCES if (folder / one).is_file())]
    files = {}
    for number, file in enumerate(used):
        step("reading the source", number, len(used))
        files[file] = record(folder / file)
    step("reading the source", len(used), len(used))
    return Source(name, revision_of(folder), files)


def _digest(origin: Source, shards: list[list[Piece]]) -> str:
    cut = [[piece.target.name for piece in shard] for shard in shards]
    text = json.dumps([RECIPE, asdict(origin), cut], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _finished(target: Path, digest: str, names: list[str], step: Progress) -> dict[str, FileRecord]:
    """The shards that an earlier run of the same conversion completed and that are still right.

    Anything else that a conversion left is removed; files that none wrote are a Conflict.
    """
    noted: dict[str, FileRecord] = {}
    progress = target / PROGRESS
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        fields = json.loads(progress.read_text("utf-8"))
        if fields["digest"] == digest:
            noted = records(fields["shards"])
    visible = [path for path in target.iterdir() if not path.name.startswith(".")]
    if visible and not progress.is_file():
        raise Conflict(
            f"{target} holds files that no conversion wrote ({visible[0].name}): choose an empty "
            "folder."
        )
    kept = {}
    for number, file in enumerate(names):
        path = target / file
        if file in noted and path.is_file():
            step("checking finished shards", number, len(names))
            if record(path) == noted[file]:
                kept[file] = noted[file]
    for path in target.rglob("*"):
        if path.is_file() and path.name not in {*kept, PROGRESS, _LOCK}:
            path.unlink()
    _note(target, digest, kept)
    return kept


def _note(target: Path, digest: str, done: dict[str, FileRecord]) -> None:
    fields = {"digest": digest, "shards": {name: asdict(one) for name, one in done.items()}}
    write_text(target / PROGRESS, json.dumps(fields))


def _shard_names(count: int) -> list[str]:
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def _main_dtype(pieces: tuple[Piece, ...]) -> str:
    names = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
    sizes: dict[str, int] = {}
    for piece in pieces:
        if piece.target.dtype in names:
            sizes[piece.target.dtype] = sizes.get(piece.target.dtype, 0) + piece.target.bytes
    return names[max(sizes, key=lambda dtype: sizes[dtype])]


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    with (target / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict(
                f"{target} is being written by another conversion: wait for it, or stop it."
            ) from error
        yield
