"""What the index of each collection is made of, as its segments' manifests tell: types, lists, recall."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlmodel import col, select

from indexer.folders import Folders
from indexer.index.generations import State
from indexer.index.milvus_leg import place_of
from indexer.segments.files import read_manifest
from indexer.sql.database import Database
from indexer.sql.tables import CollectionRow, GenerationRow, SegmentRow, known
from pipeline.errors import DamagedIndex, IndexMismatch


@dataclass(frozen=True, slots=True)
class Kind:
    """Segments of one type: "flat", or lists as "IVF256,SQ8", of which `nprobe` are searched.

    `recall` is that at 10, the lowest that was measured when such a segment was written; None for flat, which is exact.
    """

    type: str
    segments: int
    rows: int
    nprobe: int | None
    recall: float | None
    target: float | None


@dataclass(frozen=True, slots=True)
class Described:
    """One generation of a collection. `milvus` is the name of its collection there, None in the data folder.

    `rows` counts dead ones, too, which are `dead`; `wrong` says why a segment cannot be read.
    """

    collection: str
    state: str
    milvus: str | None
    segments: int
    rows: int
    dead: int
    kinds: tuple[Kind, ...]
    wrong: str | None

    @property
    def says(self) -> str:
        """In one sentence."""
        if self.wrong is not None:
            return f"{self.wrong}; zhinao doctor --deep looks closer"
        gone = f", {self.dead:,} of them deleted" if self.dead else ""
        told = f"{self.segments} segments with {self.rows:,} passages{gone}"
        kinds = "; ".join(map(_says, self.kinds))
        if self.milvus is not None:
            return f"searched in Milvus as {self.milvus}; raw vectors in {told}"
        return f"{told}: {kinds}" if kinds else told


def describe(database: Database, folders: Folders) -> list[Described]:
    """Every generation by the names of collections, the searched one first; reads manifests, no vectors."""
    with database.read() as session:
        generations = session.execute(
            select(CollectionRow.name, GenerationRow)
            .join(GenerationRow, col(GenerationRow.collection_id) == col(CollectionRow.id))
            .where(GenerationRow.state != State.GONE.value)
            .order_by(col(CollectionRow.name), col(GenerationRow.id).desc())
        ).all()
        found = []
        for name, generation in generations:
            rows = session.exec(
                select(SegmentRow).where(
                    SegmentRow.generation_id == generation.id, col(SegmentRow.published).is_(True)
                )
            ).all()
            found.append((name, generation, rows, place_of(session, known(generation.id))))
    told = []
    for name, generation, rows, place in found:
        wrong, manifests = None, []
        for row in rows:
            folder = folders.segment(generation.collection_id, known(generation.id), known(row.id))
            try:
                manifest = read_manifest(folder, generation.fingerprint)
            except (DamagedIndex, IndexMismatch) as error:
                wrong = str(error)
                continue
            manifests.append((row.rows, manifest.get("index", {"type": "flat"})))
        told.append(
            Described(
                name,
                generation.state,
                None if place is None else place.name,
                len(rows),
                sum(row.rows for row in rows),
                sum(row.dead or 0 for row in rows),
                _kinds(manifests),
                wrong,
            )
        )
    return sorted(told, key=lambda each: (each.collection, each.state != State.LIVE.value))


def _kinds(manifests: Sequence[tuple[int, dict[str, object]]]) -> tuple[Kind, ...]:
    """Segments that are searched alike, the smallest first."""
    alike: dict[tuple[str, object], list[tuple[int, dict[str, object]]]] = {}
    for rows, index in manifests:
        alike.setdefault((str(index["type"]), index.get("nprobe")), []).append((rows, index))
    kinds = [
        Kind(
            type=name,
            segments=len(some),
            rows=sum(rows for rows, _ in some),
            nprobe=nprobe if isinstance(nprobe, int) else None,
            recall=_lowest(index.get("recall") for _, index in some),
            target=_lowest(index.get("target") for _, index in some),
        )
        for (name, nprobe), some in alike.items()
    ]
    return tuple(sorted(kinds, key=lambda kind: kind.rows))


def _lowest(values: Iterable[object]) -> float | None:
    return min((float(value) for value in values if isinstance(value, int | float)), default=None)


def _says(kind: Kind) -> str:
    if kind.recall is None:
        return f"{kind.segments} {kind.type} (exact)"
    return (
        f"{kind.segments} {kind.type}, nprobe {kind.nprobe}, recall@10 {kind.recall:.3f} measured, "
        f"{kind.target:.2f} wanted"
    )
