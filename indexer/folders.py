"""Where the files of a data folder lie."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Folders:
    """The one folder that holds everything: database, originals, segments, converted models."""

    data: Path

    @property
    def models(self) -> Path:
        return self.data / "models"

    @property
    def uploads(self) -> Path:
        """Files on their way in; rubbish after a crash."""
        return self.data / "uploads"

    @property
    def held(self) -> Path:
        """Links to files that a running backup reads."""
        return self.data / "held"

    @property
    def database(self) -> Path:
        return self.data / "zhinao.db"

    def collection(self, collection_id: str) -> Path:
        return self.data / "collections" / collection_id

    def original(self, collection_id: str, sha256: str) -> Path:
        return self.collection(collection_id) / "originals" / sha256

    def generation(self, collection_id: str, generation_id: int) -> Path:
        return self.collection(collection_id) / str(generation_id)

    def segment(self, collection_id: str, generation_id: int, segment_id: int) -> Path:
        return self.generation(collection_id, generation_id) / "segments" / str(segment_id)

    def words(self, collection_id: str, generation_id: int) -> Path:
        return self.generation(collection_id, generation_id) / "words"

    def staged(self, collection_id: str, generation_id: int, version_id: int) -> Path:
        return self.generation(collection_id, generation_id) / "staged" / str(version_id)
