"""What two model hubs answer: addresses, listings and refusals, without any request.

Hugging Face lists a repository at /api/models/NAME/revision/REVISION?blobs=true; large files carry
a sha256, small ones a git blob id (sha1 of "blob SIZE\\0" and the bytes). ModelScope lists it at
/api/v1/models/NAME/repo/files, with a sha256 for every file.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import quote, urlencode

from pipeline.errors import InvalidInput, ModelUnavailable, NotFound

MODELSCOPE_ENDPOINT = "https://modelscope.cn"
_WANTED = re.compile(
    r"(config|generation_config|quantize_config|tokenizer|tokenizer_config|special_tokens_map"
    r"|added_tokens)\.json|(vocab/)?[\w.-]+\.tiktoken|vocab\.(txt|json)|merges\.txt"
    r"|[\w.-]+\.safetensors(\.index\.json)?|pytorch_model[\w.-]*\.bin(\.index\.json)?"
    r"|(LICEN[CS]E|NOTICE)[^/]*|[^/]*(许可证|License)[^/]*",
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")


class Hub(Enum):
    """Where a model comes from."""

    HUGGING_FACE = "huggingface"
    MODELSCOPE = "modelscope"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that a hub offers. One of the two checksums is always there."""

    path: str
    bytes: int
    sha256: str | None
    git_sha1: str | None

    @property
    def checksum(self) -> str:
        return self.sha256 or self.git_sha1 or ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository at one revision: the commit where the hub names it, and its files."""

    revision: str
    licence: str | None
    files: tuple[RemoteFile, ...]


def default_endpoint(hub: Hub) -> str:
    """The hub's own address; Hugging Face's follows the variable HF_ENDPOINT."""
    if hub is Hub.MODELSCOPE:
        return MODELSCOPE_ENDPOINT
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def default_revision(hub: Hub) -> str:
    """The name of the main line."""
    return "main" if hub is Hub.HUGGING_FACE else "master"


def check_repository(name: str) -> str:
    """The name `owner/model`. Raises InvalidInput for anything else."""
    if not re.fullmatch(r"[\w][\w.-]*/[\w][\w.-]*", name, re.ASCII) or ".." in name:
        raise InvalidInput(f"{name!r} is no name of a repository: write owner/model.")
    return name


def listing_url(hub: Hub, endpoint: str, repository: str, revision: str) -> str:
    """Where the listing of a repository is."""
    base = endpoint.rstrip("/")
    if hub is Hub.HUGGING_FACE:
        return f"{base}/api/models/{repository}/revision/{quote(revision, safe='')}?blobs=true"
    query = urlencode({"Revision": revision, "Recursive": "true"})
    return f"{base}/api/v1/models/{repository}/repo/files?{query}"


def file_url(hub: Hub, endpoint: str, repository: str, revision: str, path: str) -> str:
    """Where one file is."""
    base = endpoint.rstrip("/")
    if hub is Hub.HUGGING_FACE:
        return f"{base}/{repository}/resolve/{quote(revision, safe='')}/{quote(path)}"
    query = urlencode({"Revision": revision, "FilePath": path})
    return f"{base}/api/v1/models/{repository}/repo?{query}"


def read_listing(hub: Hub, body: object, repository: str, revision: str) -> Listing:
    """The listing in a hub's JSON answer.

    Raises NotFound where ModelScope says that there is no such model, and ModelUnavailable for an
    answer that is no listing, or one with a path that leaves the folder.
    """
    garbage = ModelUnavailable(
        f"the hub's answer about {repository} is no listing of files: check the endpoint."
    )
    if not isinstance(body, Mapping):
        raise garbage
    try:
        if hub is Hub.HUGGING_FACE:
            listing = _hugging_face(body)
        else:
            if body.get("Success") is False or body.get("Code") != 200:
                raise NotFound(
                    f"ModelScope has no {repository} at {revision}: "
                    f"{str(body.get('Message') or 'no reason given')[:200]}"
                )
            listing = _modelscope(body, revision)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise garbage from error
    for file in listing.files:
        parts = file.path.split("/")
        if any(part in {"", ".", ".."} for part in parts) or "\\" in file.path:
            raise ModelUnavailable(
                f"the hub lists the path {file.path!r} in {repository}, which leaves the folder: "
                "nothing was fetched."
            )
    return listing


def chosen(files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """The files that a conversion needs: no program code, no training leftovers, one weight format.

    Small files come first, so that what is wrong shows before the weights are fetched.
    """
    wanted = [file for file in files if _WANTED.fullmatch(file.path)]
    if any(file.path.endswith(".safetensors") for file in wanted):
        wanted = [file for file in wanted if not re.search(r"\.bin(\.index\.json)?$", file.path)]
    return sorted(wanted, key=lambda file: (file.bytes, file.path))


def _hugging_face(body: Mapping[str, Any]) -> Listing:
    files = []
    for one in body["siblings"]:
        lfs = one.get("lfs")
        sha256 = str(lfs["sha256"]) if lfs else None
        git = None if lfs else str(one["blobId"])
        files.append(_file(one["rfilename"], lfs["size"] if lfs else one["size"], sha256, git))
    revision = str(body["sha"])
    if not _SHA1.fullmatch(revision):
        raise ValueError(revision)
    card = body.get("cardData") or {}
    licence = card.get("license")
    return Listing(revision, str(licence) if licence else None, tuple(files))


def _modelscope(body: Mapping[str, Any], revision: str) -> Listing:
    files = [
        _file(one["Path"], one["Size"], str(one["Sha256"]), None)
        for one in body["Data"]["Files"]
        if one["Type"] == "blob"
    ]
    return Listing(revision, None, tuple(files))


def _file(path: object, size: object, sha256: str | None, git: str | None) -> RemoteFile:
    known = _SHA256.fullmatch(sha256) if sha256 is not None else _SHA1.fullmatch(git or "")
    if not isinstance(path, str) or not isinstance(size, int) or size < 0 or not known:
        raise ValueError(path)
    return RemoteFile(path, size, sha256, git)
