"""The error tree. Every message is a sentence for the user: what was wrong, and what to do."""

import collections.abc
import errno


class RagError(Exception):
    """The root of the errors that a user may see; anything else is a bug."""

    retryable = False


class InvalidInput(RagError):
    """The request or the file cannot be worked on as it is."""


class UnsupportedMedia(InvalidInput):
    """A file of a type that is not read."""


class EmptyDocument(InvalidInput):
    """A file without any text."""


class DamagedDocument(InvalidInput):
    """A file that is truncated, encrypted or not what its name says."""


class TooLarge(InvalidInput):
    """More bytes, pages or tokens than a limit allows."""


class NotFound(RagError):
    """What was named does not exist."""


class Conflict(RagError):
    """What was asked for contradicts what is there."""


class IndexMismatch(Conflict):
    """A segment was written by another embedder, dimension or layout."""


class DamagedIndex(IndexMismatch):
    """A file of the index is missing, short or changed since it was written."""


class Unavailable(RagError):
    """Something that is needed does not answer now; the same request may work later."""

    retryable = True


class Overloaded(Unavailable):
    """Too many requests wait already."""


class ModelUnavailable(Unavailable):
    """A model is missing, does not load or does not answer."""


_NATIVE = frozenset({"onnxruntime", "rapidocr", "cv2"})
_NO_MEMORY = ("bad_alloc", "allocate memory", "Insufficient memory", "bad allocation")


def memory_ran_out(error: BaseException) -> bool:
    """Whether memory was refused. onnxruntime and OpenCV say it in words only.

    >>> memory_ran_out(MemoryError()), memory_ran_out(ValueError("bad_alloc"))
    (True, False)
    """
    if isinstance(error, MemoryError):
        return True
    native = type(error).__module__.split(".")[0] in _NATIVE
    return native and any(word in str(error)[:2_000] for word in _NO_MEMORY)


_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


def disk_refused(error: BaseException) -> str | None:
    """The sentence for a disk that is full, read-only or broken, where nobody nearer to it had one; else None."""
    if not isinstance(error, OSError) or error.errno not in _DISK:
        return None
    return (
        f"the disk refuses ({error.strerror}): free some disk space, and see that it can be written"
    )


def causes(error: BaseException) -> collections.abc.Iterator[BaseException]:
    """The error and what it came from, which libraries wrap in errors of their own."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
