"""The pages of a document, handed out in steps."""

from collections.abc import Sequence

from pipeline.ports import Pages


class Steps:
    """The pages of a document that are still to be read, in steps; what is `kept` is left out."""

    def __init__(
        self, count: int, kept: Sequence[tuple[range, bytes]], pages: Pages | None
    ) -> None:
        self.kept = [piece for _, piece in kept]
        self.left: list[range] = []
        """What nobody has been asked for, the next pages last."""
        at = 0
        for there in sorted((there for there, _ in kept), key=lambda one: one.start):
            if at < there.start:
                self.left.append(range(at, there.start))
            at = there.stop
        if at < count:
            self.left.append(range(at, count))
        self.left.reverse()
        self._pages = pages

    def step(self, most: int) -> range:
        """The next pages, `most` of them at most."""
        pages = self.left.pop()
        if len(pages) > most:
            self.left.append(pages[most:])
        return pages[:most]

    def note(self, pages: range, read: bytes) -> None:
        """Tell that a step was read."""
        if self._pages is not None:
            self._pages.note(pages, read)
