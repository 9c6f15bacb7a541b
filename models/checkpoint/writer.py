"""Writes a safetensors file tensor by tensor, so that memory holds one tensor and not a file.

Format: 8 bytes with the header's length (little endian), a JSON header padded with spaces to a
multiple of 8, then the bytes of the tensors one after another.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.checkpoint.manifest import FileRecord

if TYPE_CHECKING:
    import torch

ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F16": 2, "BF16": 2, "I16": 2,
    "F32": 4, "I32": 4, "F64": 8, "I64": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file. `dtype` is safetensors' name of it, such as BF16."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


def header(entries: Sequence[Entry]) -> bytes:
    """The length and the header of a file with these tensors in this order."""
    fields: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for entry in entries:
        fields[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [at, at + entry.bytes],
        }
        at += entry.bytes
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_tensors(
    path: Path, entries: Sequence[Entry], tensors: Iterable["torch.Tensor"]
) -> FileRecord:
    """Write the file and fsync it; gives its size and sha256. Raises OSError.

    `tensors` are taken one after another, in the order of `entries` and of their shapes and
    dtypes.
    """
    import torch

    digest = hashlib.sha256()
    size = 0
    with path.open("wb") as file:

        def put(data: bytes | memoryview) -> None:
            nonlocal size
            file.write(data)
            digest.update(data)
            size += len(data)

        put(header(entries))
        for entry, tensor in zip(entries, tensors, strict=True):
            assert tuple(tensor.shape) == entry.shape, entry
            flat = tensor.contiguous().reshape(-1)
            if flat.numel():
                put(flat.view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())
    return FileRecord(size, digest.hexdigest())
