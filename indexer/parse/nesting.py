"""How many levels of a file may lie in each other: elements of a page, values of JSON, groups of RTF, parts of a mail.

What is nested deeper is refused. The libraries below would leave it out without a word (libxml2, markdown-it), take
the square of the depth (the standard library's mail), or run out of stack.
"""

from typing import TYPE_CHECKING

from indexer.parse.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from lxml.etree import _Element

NESTING = DEFAULT_LIMITS.nesting
OF_XML = 256
"""libxml2's own limit, which holds for the XML of Office files whatever is set."""
_SAYS = "Excessive depth"


class TooDeep(Exception):
    """Something lies more than `most` levels deep. The sentence goes on after the file's name and "it"."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"has more than {most:,} levels of nesting, which is the limit. Save it with fewer levels "
            "and upload it"
        )


def depth(root: "_Element") -> int:
    """Levels of elements, the root's own one included."""
    from lxml import etree

    deepest = level = 0
    for event, _ in etree.iterwalk(root, events=("start", "end")):
        level += 1 if event == "start" else -1
        deepest = max(deepest, level)
    return deepest


def in_xml(error: BaseException) -> TooDeep | None:
    """What libxml2 means when it gives up for this reason."""
    from lxml import etree

    if isinstance(error, etree.XMLSyntaxError) and _SAYS in str(error):
        return TooDeep(OF_XML)
    return None
