"""Compares a converted folder with the checkpoint that it was made from.

Every tensor must equal its part of the published one to the bit; int4 tensors must also mean the
same numbers once dequantised; a probe's logits must agree; and the reranker's score position is
measured on labelled pairs.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.checkpoint.configs import SCORE_OFFSET, SCORE_POSITION
from models.checkpoint.convert import converted
from models.checkpoint.errors import DamagedCheckpoint
from models.checkpoint.gptq import dequantise
from models.checkpoint.manifest import (
    Manifest,
    check_files,
    read_manifest,
    record,
    write_manifest,
    write_text,
)
from models.checkpoint.plan import Kind, Part
from models.checkpoint.probe import logit_difference, position_scores
from models.checkpoint.published import Checkpoint, inspect
from models.checkpoint.score_position import Decision, Pair, decide
from models.checkpoint.source import open_tensors, read_json, stored_tensors, weight_files
from pipeline.errors import Conflict

TOLERANCE = 1e-4
"""The largest difference of two logits that counts as equal; equal weights usually give 0."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Report:
    """What was compared. `logits` is the largest difference on the probe, None where none ran."""

    files: int
    tensors: int
    dequantised: int
    logits: float | None
    decision: Decision | None


def check_folder(target: Path, step: Progress = lambda _what, _done, _all: None) -> Manifest:
    """Check a converted folder against its own manifest, without the source.

    Raises NotFound where it has none, DamagedCheckpoint naming the first wrong file.
    """
    manifest = read_manifest(target)
    checked = 0

    def note(_file: str) -> None:
        nonlocal checked
        step("checksums", checked, len(manifest.files))
        checked += 1

    check_files(target, manifest.files, note)
    return manifest


def verify(
    source: Path,
    target: Path,
    *,
    pairs: Sequence[Pair] = (),
    probe: bool = True,
    step: Progress = lambda _what, _done, _all: None,
) -> Report:
    """Compare `target` with `source`, and record the reranker's score position where it is clear.

    `probe` loads both models, one after the other, in the dtype they are stored in; GPTQ weights
    are compared dequantised instead, since running them needs a GPU's kernels. `pairs` are scored
    for a reranker only. Raises DamagedCheckpoint naming the first difference, Conflict where the
    folder was made from other files, and what `inspect` raises.
    """
    manifest = check_folder(target, step)
    checkpoint = inspect(source)
    _same_source(manifest, checkpoint, target)
    tensors = _compare_tensors(checkpoint, target, step)
    dequantised = _compare_dequantised(checkpoint, target, step)
    logits = None
    if probe and checkpoint.quantisation is None:
        step("logits", 0, 1)
        logits = logit_difference(checkpoint, target)
        if not logits <= TOLERANCE:
            raise DamagedCheckpoint(
                f"{target} answers the probe with logits that differ by {logits:.3g} from those of "
                f"{source} (up to {TOLERANCE:g} is equal): convert it again."
            )
    decision = None
    if checkpoint.kind is Kind.RERANK and pairs:
        step("score position", 0, 1)
        scores = position_scores(target, pairs)
        decision = decide(scores, [pair.relevant for pair in pairs])
        if decision.winner is not None:
            _record(target, manifest, decision)
    return Report(len(manifest.files), tensors, dequantised, logits, decision)


def _same_source(manifest: Manifest, checkpoint: Checkpoint, target: Path) -> None:
    for name in checkpoint.files:
        wanted = manifest.source.files.get(name)
        if wanted is None or wanted.bytes != (checkpoint.folder / name).stat().st_size:
            raise Conflict(
                f"{target} was made from other weights than {checkpoint.folder / name}: give the "
                "folder that it was converted from."
            )


def _compare_tensors(checkpoint: Checkpoint, target: Path, step: Progress) -> int:
    import torch

    held = {one.entry.name: one for one in stored_tensors(target, weight_files(target))}
    planned = {piece.target.name: piece.target for piece in checkpoint.pieces}
    if planned.keys() != held.keys():
        name = min(planned.keys() ^ held.keys())
        raise DamagedCheckpoint(
            f"{target} {'lacks' if name in planned else 'holds'} the tensor {name}, unlike what "
            f"{checkpoint.folder} becomes: convert it again."
        )
    for name, entry in planned.items():
        if held[name].entry != entry:
            raise DamagedCheckpoint(
                f"the tensor {name} of {target} is {held[name].entry}, not {entry}: convert again."
            )
    pieces = list(checkpoint.pieces)
    compared = zip(pieces, converted(checkpoint, pieces), strict=True)
    for number, (piece, wanted) in enumerate(compared, start=1):
        name = piece.target.name
        with open_tensors(target / held[name].file) as others:
            same = torch.equal(_bits(others.get(name)), _bits(wanted))
        if not same:
            raise DamagedCheckpoint(
                f"the tensor {name} in {target / held[name].file} differs from its part of "
                f"{piece.source} in {checkpoint.folder / piece.file}: convert it again."
            )
        step("tensors", number, len(pieces))
    return len(pieces)


def _compare_dequantised(checkpoint: Checkpoint, target: Path, step: Progress) -> int:
    """The dequantised q, k and v must be the split of the dequantised fused matrix."""
    import torch

    from models.checkpoint.splitting import split_rows

    if checkpoint.quantisation is None or checkpoint.geometry is None:
        return 0
    bits = checkpoint.quantisation.bits
    files = {piece.source: piece.file for piece in checkpoint.pieces}
    held = {one.entry.name: one.file for one in stored_tensors(target, weight_files(target))}

    def weight(folder: Path, where: dict[str, str], layer: str) -> Any:  # noqa: ANN401
        four = {}
        for name in ("qweight", "qzeros", "scales", "g_idx"):
            with open_tensors(folder / where[f"{layer}.{name}"]) as tensors:
                four[name] = tensors.get(f"{layer}.{name}")
        return dequantise(**four, bits=bits)

    layers = checkpoint.geometry.layers
    for number in range(layers):
        at = f"model.layers.{number}.self_attn"
        fused = weight(checkpoint.folder, files, f"{at}.qkv_proj")
        for part, wanted in split_rows(fused, checkpoint.geometry).items():
            name = f"{at}.{part.value}_proj"
            if part is not Part.WHOLE and not torch.equal(weight(target, held, name), wanted):
                raise DamagedCheckpoint(
                    f"{name} of {target} means other numbers than its part of {at}.qkv_proj in "
                    f"{checkpoint.folder}: convert it again."
                )
        step("dequantised", number + 1, layers)
    return 3 * layers


def _bits(tensor: Any) -> Any:  # noqa: ANN401  a tensor, compared as bytes: NaN equals NaN
    import torch

    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _record(target: Path, manifest: Manifest, decision: Decision) -> None:
    """Write the winner into config.json, and config.json's new checksum into the manifest."""
    assert decision.winner is not None
    path = target / "config.json"
    fields = read_json(path)
    fields[SCORE_POSITION] = decision.winner.value
    fields["score_position_auc"] = {p.value: round(a, 4) for p, a in decision.auc.items()}
    fields.setdefault(SCORE_OFFSET, 0.0)
    write_text(path, json.dumps(fields, ensure_ascii=False, indent=1))
    files = manifest.files | {"config.json": record(path)}
    write_manifest(target, replace(manifest, files=files))
