"""Fetches a model from a hub: resumable, checksummed, and not counted before it is complete.

Files lie under their own names once their checksum is right; a part of one is hidden and carries
the checksum in its name, so that parts of two revisions are never mixed. `download.json` is written
last.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from models.checkpoint.errors import LicenceNotAccepted, NotEnoughSpace, WrongChecksum
from models.checkpoint.hub_client import HubClient, Progress, Wanted, size_of
from models.checkpoint.hubs import Listing, RemoteFile, check_repository, chosen
from models.checkpoint.licence import Licence
from models.checkpoint.manifest import write_text
from pipeline.errors import ModelUnavailable, NotFound

DOWNLOAD = "download.json"
LICENCE = "licence.json"
RESERVE = 256 * 1024 * 1024
_BLOCK = 1024 * 1024


def pull(
    client: HubClient,
    wanted: Wanted,
    folder: Path,
    *,
    licence: Licence,
    accepted: bool,
    step: Progress = lambda _file, _done, _size: None,
    free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Path:
    """Fetch the files that a conversion needs into `folder`, and give it back.

    A complete folder of the same revision costs one request and one reading of its files. Raises
    LicenceNotAccepted before anything is fetched, NotEnoughSpace, NotFound, HubRefused,
    WrongChecksum or ModelUnavailable. `free` gives the bytes free at a path.
    """
    check_repository(wanted.repository)
    if licence.must_be_accepted and not accepted and not (folder / LICENCE).is_file():
        raise LicenceNotAccepted(
            f"{licence.summary} Read {licence.title} in the model's repository, then run it "
            "again with --accept-licence."
        )
    listing = client.listing(wanted)
    files = chosen(listing.files)
    if not any(file.path.endswith((".safetensors", ".bin")) for file in files):
        raise NotFound(f"{wanted.repository} at {wanted.revision} holds no weights.")
    pinned = Wanted(wanted.hub, wanted.endpoint, wanted.repository, listing.revision)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if licence.must_be_accepted and accepted:
            _record_licence(folder, pinned, licence, files, now())
        (folder / DOWNLOAD).unlink(missing_ok=True)
        missing = [file for file in files if not _sound(folder / file.path, file)]
        _make_room(folder, missing, free)
        for file in missing:
            _fetch(client, pinned, file, folder, step)
        _record_download(folder, pinned, listing, files)
    except OSError as error:
        raise ModelUnavailable(
            f"{folder} cannot be written ({error.strerror or error}): check its rights and the disk."
        ) from error
    return folder


def is_complete(folder: Path) -> bool:
    """Whether a download into the folder has come to its end."""
    return (folder / DOWNLOAD).is_file()


def revision_of(folder: Path) -> str:
    """The revision that was fetched into a folder, or "" for one that was not fetched by us."""
    try:
        return str(json.loads((folder / DOWNLOAD).read_text("utf-8"))["revision"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _fetch(
    client: HubClient, wanted: Wanted, file: RemoteFile, folder: Path, step: Progress
) -> None:
    target = folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{file.checksum[:16]}.part")
    if size_of(part) > file.bytes:
        part.unlink()
    part.touch()
    client.fetch(wanted, file, part, step)
    if not _sound(part, file):
        part.unlink()
        raise WrongChecksum(
            f"{file.path} of {wanted.repository} arrived with another checksum than the hub lists: "
            "it was thrown away; run it again, or use another endpoint."
        )
    part.replace(target)
    step(file.path, file.bytes, file.bytes)


def _make_room(folder: Path, missing: list[RemoteFile], free: Callable[[Path], int]) -> None:
    there = sum(part.stat().st_size for part in folder.rglob(".*.part"))
    need = sum(file.bytes for file in missing) - there
    room = free(folder)
    if missing and room < need + RESERVE:
        raise NotEnoughSpace(
            f"{folder} has room for {room / 1e9:.1f} GB, and {(need + RESERVE) / 1e9:.1f} GB are "
            "needed: free some, or set ZHINAO_DATA to a larger disk."
        )


def _sound(path: Path, file: RemoteFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.bytes:
        return False
    if file.sha256 is not None:
        digest, wanted = hashlib.sha256(), file.sha256
    else:
        # git names a blob by sha1: that is what the hub lists for small files.
        digest, wanted = hashlib.sha1(usedforsecurity=False), file.git_sha1 or ""
        digest.update(b"blob %d\0" % file.bytes)
    with path.open("rb") as data:
        while block := data.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest() == wanted


def _record_download(
    folder: Path, wanted: Wanted, listing: Listing, files: list[RemoteFile]
) -> None:
    fields = {
        "hub": wanted.hub.value,
        "endpoint": wanted.endpoint,
        "repository": wanted.repository,
        "revision": wanted.revision,
        "licence_of_the_card": listing.licence,
        "files": [asdict(file) for file in files],
    }
    write_text(folder / DOWNLOAD, json.dumps(fields, ensure_ascii=False, indent=1))


def _record_licence(
    folder: Path, wanted: Wanted, licence: Licence, files: list[RemoteFile], when: datetime
) -> None:
    texts = [file.path for file in files if "licen" in file.path.lower() or "许可" in file.path]
    fields = {
        "licence": licence.title,
        "summary": licence.summary,
        "accepted": when.isoformat(timespec="seconds"),
        "repository": wanted.repository,
        "revision": wanted.revision,
        "texts": texts,
    }
    write_text(folder / LICENCE, json.dumps(fields, ensure_ascii=False, indent=1))
