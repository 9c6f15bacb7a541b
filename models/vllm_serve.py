"""Serve a checkpoint with vLLM: `python -m models.vllm_serve chat FOLDER`, in vLLM's image or environment.

It asks the driver how much memory the GPUs have, prints the `vllm serve` command that fits, and becomes it.
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from models.vllm_command import ROLES, command, configuration, plan, weights
from pipeline.errors import ModelUnavailable, RagError

_QUERY = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
_DRIVER_S = 30.0


def gpu_memory(visible: str | None = None) -> list[int]:
    """Bytes of each GPU. `visible` is CUDA_VISIBLE_DEVICES; None means all.

    Raises ModelUnavailable where there is no GPU or no driver.
    """
    ids = ["--id=" + visible] if visible else []
    try:
        said = subprocess.run(  # noqa: S603
            [*_QUERY, *ids], capture_output=True, text=True, timeout=_DRIVER_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelUnavailable(
            "nvidia-smi does not answer: vLLM needs an NVIDIA GPU and its driver here, and in a container the NVIDIA "
            "container toolkit"
        ) from error
    if said.returncode != 0:
        _no_gpu(said.stdout + said.stderr)
    return parse_memory(said.stdout)


def parse_memory(text: str) -> list[int]:
    """Bytes of each GPU from nvidia-smi's lines of MiB.

    >>> parse_memory("24564\\n24564\\n")
    [25757220864, 25757220864]
    """
    try:
        sizes = [int(line) * 2**20 for line in text.split("\n") if line.strip()]
    except ValueError:
        _no_gpu(text)
    if not sizes:
        _no_gpu(text)
    return sizes


def _no_gpu(said: str) -> NoReturn:
    first = next((line for line in said.splitlines() if line.strip()), "it says nothing")
    raise ModelUnavailable(f"nvidia-smi names no GPU's memory ({first[:200]}): mend the driver")


def arguments(words: Sequence[str], sizes: Sequence[int] | None = None) -> list[str]:
    """The `vllm serve` command for a command line; `sizes` are the GPUs' bytes, asked from the driver when None."""
    parser = argparse.ArgumentParser("python -m models.vllm_serve", description=__doc__)
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", help="the model's name in requests; the folder's by default")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--context", type=_optional, default=None, help="tokens, at most what fits")
    parser.add_argument("--utilisation", type=float, default=0.9, help="share of the GPU memory")
    parser.add_argument("--print", action="store_true", help="print the command, do not run it")
    given, rest = parser.parse_known_args(words)
    folder: Path = given.folder
    config = configuration(folder)
    held = weights(folder)
    found = list(sizes) if sizes is not None else gpu_memory(os.environ.get("CUDA_VISIBLE_DEVICES"))
    fits = plan(
        config,
        min(found),
        len(found),
        weights_bytes=held,
        role=given.role,
        utilisation=given.utilisation,
        wanted=given.context,
    )
    name = given.name or folder.name
    return [*command(fits, folder, name=name, host=given.host, port=given.port), *rest]


def _optional(word: str) -> int | None:
    return int(word) if word else None


def main(words: Sequence[str]) -> int:
    """Print the command and become vLLM. Returns 1 with a sentence on stderr when that cannot be."""
    try:
        found = arguments(words)
    except RagError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(shlex.join(found), flush=True)  # noqa: T201
    if "--print" in words:
        return 0
    # An environment that was not activated is not on the PATH.
    beside = Path(sys.executable).with_name(found[0])
    try:
        os.execvp(beside if beside.exists() else found[0], found)  # noqa: S606
    except OSError as error:
        why = f"error: vllm cannot be started ({error.strerror}): install vLLM here"
        print(why, file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
