"""What the answer of a child that reads files means, and how its end is said."""

from indexer.parse import wire
from indexer.parse.limits import Limits
from indexer.parse.spawned import Broken, Reply
from indexer.parse.wire import Kind
from pipeline.errors import DamagedDocument, RagError, TooLarge, Unavailable
from pipeline.types import Parsed


class ParserMistake(Exception):
    """A bug of ours in a parser; the message is the child's traceback."""


def decoded(reply: Reply) -> Parsed:
    """What a reply holds, or raises. A child may have been taken over by a file: nothing it says is trusted."""
    try:
        if reply.kind is Kind.REFUSED:
            raise wire.decode_error(reply.body)
        if reply.kind is Kind.PARSED:
            return wire.decode_parsed(reply.body)
    except ValueError as error:
        raise nonsense() from error
    raise ParserMistake(reply.body.decode("utf-8", "replace"))


def nonsense() -> DamagedDocument:
    return DamagedDocument("the file made its reader answer nonsense. Save it again and upload it.")


def ended(broken: Broken, limits: Limits, name: str) -> RagError:
    if broken.limit is not None:
        return over(broken.limit, limits, name)
    if broken.code is None or broken.code in {0, -9, -15}:
        return Unavailable(
            f"the process that read “{name}” was ended from outside, perhaps as the machine's memory "
            "ran out: it is tried again"
        )
    return DamagedDocument(
        f"“{name}” makes the program that reads it crash: it is damaged, or made to do harm. Open it, "
        "save it again and upload it."
    )


def over(limit: str, limits: Limits, name: str) -> TooLarge:
    """The sentence for a limit."""
    says = {
        "memory_mb": f"needs more than {limits.memory_mb:,} MB of memory to be read",
        "cpu_seconds": f"takes more than {limits.cpu_seconds:,} seconds of computing to be read",
        "seconds": f"takes more than {limits.seconds:,} seconds to be read",
        "document_seconds": f"takes more than {limits.document_seconds:,} seconds to be read as a whole",
        "open_files": f"needs more than {limits.open_files:,} open files to be read",
        "written_mb": f"needs a file of more than {limits.written_mb:,} MB to be written on the way",
        "result_mb": f"has more than {limits.result_mb:,} MB of text with its places",
    }[limit]
    return TooLarge(f"“{name}” {says}, which is the limit. Split it and upload the parts.")
