"""A published checkpoint, looked at and understood before anything is written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.checkpoint.errors import UnknownCheckpoint
from models.checkpoint.gptq import QUANTIZE_CONFIG, Quantisation, quantisation_of
from models.checkpoint.plan import Geometry, Kind, Piece, geometry_of, kind_of, plan, wanted
from models.checkpoint.pull import is_complete
from models.checkpoint.sidecars import VOCABULARY
from models.checkpoint.source import (
    AGAIN,
    Stored,
    open_tensors,
    read_json,
    stored_tensors,
    weight_files,
)
from pipeline.errors import NotFound


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A published checkpoint whose files were looked at and understood; no weights are loaded."""

    folder: Path
    config: dict[str, Any]
    kind: Kind
    geometry: Geometry | None
    quantisation: Quantisation | None
    files: tuple[str, ...]
    pieces: tuple[Piece, ...]
    score_offset: float | None


def inspect(folder: Path) -> Checkpoint:
    """Read configs and headers, and decide what becomes what.

    Raises NotFound for a missing file, DamagedCheckpoint for a truncated one, UnknownCheckpoint
    for an architecture, a tensor, a shape or a quantisation that is not known.
    """
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}: give the folder of a checkpoint.")
    if not is_complete(folder) and any(folder.rglob(".*.part")):
        raise NotFound(
            f"the download into {folder} did not finish: run `zhinao models pull` again."
        )
    config = read_json(folder / "config.json")
    files = weight_files(folder)
    stored = stored_tensors(folder, files)
    where = str(folder)
    kind = kind_of(config, (one.entry.name for one in stored), where)
    dialect = folder / QUANTIZE_CONFIG
    quantisation = quantisation_of(config, read_json(dialect) if dialect.is_file() else None, where)
    packed = next((one.entry.name for one in stored if one.entry.name.endswith(".qweight")), None)
    if packed and quantisation is None:
        raise UnknownCheckpoint(
            f"{where} holds the quantised tensor {packed}, but neither its config.json nor "
            f"{QUANTIZE_CONFIG} says how it is packed: {AGAIN}."
        )
    geometry = None if kind is Kind.EMBED else geometry_of(config, where)
    if quantisation and geometry and geometry.head_dim % quantisation.per_word:
        raise UnknownCheckpoint(f"{where} has heads of {geometry.head_dim}, not whole int32 words.")
    _has_vocabulary(folder, kind)
    wants = wanted(kind, config, quantisation, where)
    prefix = "bert." if kind is Kind.EMBED else ""
    pieces = plan(stored, wants, where, prefix=prefix)
    bias = _dropped_biases(folder, stored, kind, quantisation)
    return Checkpoint(
        folder, config, kind, geometry, quantisation, tuple(files), tuple(pieces), bias
    )


def _has_vocabulary(folder: Path, kind: Kind) -> None:
    name = "vocab.txt" if kind is Kind.EMBED else VOCABULARY
    if not (folder / name).is_file():
        raise NotFound(f"{folder / name} is missing: the checkpoint is not complete; {AGAIN}.")


def _dropped_biases(
    folder: Path, stored: list[Stored], kind: Kind, quantisation: Quantisation | None
) -> float | None:
    """The bias of the score head, which goes into the config; GPTQ's other biases must be zero."""
    score = None
    for one in stored:
        name = one.entry.name
        head = kind is Kind.RERANK and name == "linear.bias"
        spare = (
            quantisation is not None
            and name.endswith("_proj.bias")
            and not name.endswith("qkv_proj.bias")
        )
        if head or spare:
            with open_tensors(folder / one.file) as tensors:
                value = tensors.get(name)
            if head:
                score = float(value.float().item())
            elif bool(value.any()):
                raise UnknownCheckpoint(
                    f"{name} in {one.file} of {folder} is not zero, and Qwen2 has no such bias."
                )
    return score
