"""What a zip-based document may unpack to, checked before anything unpacks it."""

import io
import zipfile

from pipeline.errors import DamagedDocument, TooLarge

MAX_UNPACKED = 500_000_000
"""Bytes."""
MAX_RATIO = 200
_HARMLESS = 20_000_000
_ENCRYPTED = 0x1


def check_size(
    data: bytes, name: str, *, max_unpacked: int = MAX_UNPACKED, max_ratio: int = MAX_RATIO
) -> None:
    """Raises TooLarge for a document that unpacks to more than `max_unpacked` bytes, or to more
    than `max_ratio` times its size (from 20 MB on, since small XML packs well).

    Python's zipfile never reads more of a member than its header declares, so the declared sizes
    bound what is read. Raises DamagedDocument where the archive can't be opened or is encrypted.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise DamagedDocument(
            f"“{name}” is damaged: it is cut off or was changed on its way. Upload it again from "
            "the original."
        ) from error
    if any(member.flag_bits & _ENCRYPTED for member in members):
        raise DamagedDocument(f"“{name}” is encrypted. Remove the password and upload it again.")
    unpacked = sum(member.file_size for member in members)
    if unpacked > max_unpacked or (unpacked > _HARMLESS and unpacked > max_ratio * len(data)):
        raise TooLarge(
            f"“{name}” unpacks to {unpacked / 1e6:,.0f} MB, more than the limit of "
            f"{max_unpacked / 1e6:,.0f} MB or {max_ratio} times its size. Split it or save it again."
        )
