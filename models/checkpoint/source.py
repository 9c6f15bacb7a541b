"""Reads a published folder: its config and its weight files, safetensors or `.bin`, never a pickle."""

import json
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from models.checkpoint.errors import DamagedCheckpoint, UnknownCheckpoint
from models.checkpoint.writer import Entry
from pipeline.errors import NotFound

if TYPE_CHECKING:
    import torch

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLES = ("model.safetensors", "pytorch_model.bin")
AGAIN = "download it again with `zhinao models pull`"


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor as a weight file of the source holds it."""

    entry: Entry
    file: str


class Tensors(Protocol):
    """The tensors of one open weight file."""

    def entries(self) -> list[Entry]: ...
    def get(self, name: str) -> "torch.Tensor": ...


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of the folder. Raises NotFound or DamagedCheckpoint."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"{path} is missing: the checkpoint is not complete; {AGAIN}.") from error
    except (OSError, ValueError) as error:
        raise DamagedCheckpoint(f"{path} is not readable JSON ({error}): {AGAIN}.") from error
    if not isinstance(value, dict):
        raise DamagedCheckpoint(f"{path} is no JSON object: {AGAIN}.")
    return value


def weight_files(folder: Path) -> list[str]:
    """The names of the weight files, in order.

    An index names its shards; without one there is a single file. Raises NotFound when there are
    no weights or a shard of the index is missing.
    """
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}: give the folder of a checkpoint.")
    for index in _INDEXES:
        if (folder / index).is_file():
            return _shards(folder, index)
    for single in _SINGLES:
        if (folder / single).is_file():
            return [single]
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if len(others) == 1:
        return others
    found = f"several files without an index: {', '.join(others)}" if others else "no weights"
    raise NotFound(
        f"{folder} holds {found}: a checkpoint has model.safetensors, pytorch_model.bin or an index "
        f"of shards; {AGAIN}."
    )


def stored_tensors(folder: Path, files: list[str]) -> list[Stored]:
    """Name, dtype, shape and file of every tensor; reads headers only.

    Raises DamagedCheckpoint for a truncated file, one that is no weights, and a name stored twice.
    """
    found: dict[str, Stored] = {}
    for file in files:
        with open_tensors(folder / file) as tensors:
            for entry in tensors.entries():
                if entry.name in found:
                    raise DamagedCheckpoint(
                        f"the tensor {entry.name} is in {found[entry.name].file} and in {file} of "
                        f"{folder}: {AGAIN}."
                    )
                found[entry.name] = Stored(entry, file)
    for index in _INDEXES:
        if (folder / index).is_file():
            _agree(folder / index, found)
            break
    return list(found.values())


@contextmanager
def open_tensors(path: Path) -> Iterator[Tensors]:
    """An open weight file whose tensors are read one at a time (mapped, not loaded)."""
    if not path.is_file():
        raise NotFound(f"{path} is missing: the checkpoint is not complete; {AGAIN}.")
    if path.stat().st_size == 0:
        raise DamagedCheckpoint(f"{path} is empty: {AGAIN}.")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                yield _Safe(file)
        except SafetensorError as error:
            raise DamagedCheckpoint(
                f"{path} is truncated or no safetensors file ({error}): {AGAIN}."
            ) from error
    else:
        yield _Pickled(_load_bin(path))


class _Safe:
    def __init__(self, file: Any) -> None:  # noqa: ANN401  safetensors ships no types
        self._file = file

    def entries(self) -> list[Entry]:
        found = []
        for name in self._file.keys():  # noqa: SIM118  not a mapping
            part = self._file.get_slice(name)
            found.append(Entry(name, part.get_dtype(), tuple(part.get_shape())))
        return found

    def get(self, name: str) -> "torch.Tensor":
        tensor: torch.Tensor = self._file.get_tensor(name)
        return tensor


class _Pickled:
    def __init__(self, tensors: dict[str, "torch.Tensor"]) -> None:
        self._tensors = tensors

    def entries(self) -> list[Entry]:
        return [
            Entry(name, _dtype_name(name, tensor), tuple(tensor.shape))
            for name, tensor in self._tensors.items()
        ]

    def get(self, name: str) -> "torch.Tensor":
        return self._tensors[name]


def _load_bin(path: Path) -> dict[str, "torch.Tensor"]:
    """A `.bin` file, mapped where its format allows; only tensors are ever unpickled."""
    import torch

    try:
        loaded = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        raise DamagedCheckpoint(
            f"{path} is truncated, or holds more than tensors and is not loaded for safety: "
            f"{AGAIN}."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise DamagedCheckpoint(
            f"{path} is truncated or no file of PyTorch weights: {AGAIN}."
        ) from error
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in loaded.items()
    ):
        raise UnknownCheckpoint(f"{path} is no table of names and tensors: it is not converted.")
    return loaded


def _dtype_name(name: str, tensor: "torch.Tensor") -> str:
    import torch

    names = {
        torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.float16: "F16",
        torch.bfloat16: "BF16", torch.int16: "I16", torch.float32: "F32", torch.int32: "I32",
        torch.float64: "F64", torch.int64: "I64",
    }  # fmt: skip
    if tensor.dtype not in names:
        raise UnknownCheckpoint(f"the tensor {name} has the dtype {tensor.dtype}, not known here.")
    return names[tensor.dtype]


def _weight_map(path: Path) -> dict[str, str]:
    entries = read_json(path).get("weight_map")
    if not isinstance(entries, dict) or not all(
        isinstance(file, str) and Path(file).name == file for file in entries.values()
    ):
        raise DamagedCheckpoint(f"{path} has no table weight_map of file names: {AGAIN}.")
    return entries


def _shards(folder: Path, index: str) -> list[str]:
    files = sorted(set(_weight_map(folder / index).values()))
    for file in files:
        if not (folder / file).is_file():
            raise NotFound(f"{folder / file} is missing, but {index} names it: {AGAIN}.")
    return files


def _agree(index: Path, found: dict[str, Stored]) -> None:
    for name, file in _weight_map(index).items():
        if name not in found or found[name].file != file:
            raise DamagedCheckpoint(
                f"{index.with_name(file)} lacks the tensor {name} that {index.name} promises: "
                f"{AGAIN}."
            )
