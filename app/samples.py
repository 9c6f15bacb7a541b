"""The sample documents that a new data folder starts with."""

import logging
from pathlib import Path

from app.state import State
from app.uploads import take_bytes

FOLDER = Path(__file__).parent / "samples"
_MARK = "samples.added"
_ENDINGS = (".docx", ".pdf", ".md", ".html", ".xlsx", ".pptx", ".eml", ".csv", ".txt")
_log = logging.getLogger("zhinao")


def add_samples(state: State) -> int:
    """Upload the samples into the default collection, once for a data folder. Returns how many were added."""
    mark = state.services.core.folders.data / _MARK
    if mark.exists():
        return 0
    state.services.core.catalog.ensure_collection("default")
    paths = sorted(path for path in FOLDER.iterdir() if path.suffix in _ENDINGS)
    for path in paths:
        take_bytes(state, "default", path.name, path.read_bytes())
    mark.touch()
    return len(paths)
