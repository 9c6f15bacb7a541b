"""Reading takes memory for a page, not for a document."""

import os
from contextlib import closing
from pathlib import Path

from memory import Watch
from pages import said, scan_pdf, text_pdf

from indexer.parse.pool import ParserPool


def test_a_scan_of_six_pages_is_read_page_by_page_in_less_than_a_gigabyte(tmp_path: Path) -> None:
    data = scan_pdf(tmp_path / "scan.pdf", 6, a4_every=3).read_bytes()
    with closing(ParserPool()) as readers, Watch(os.getpid(), below=True) as watch:
        parsed = readers.parse(data, "scan.pdf")
    assert parsed.pages == 6
    for page in range(1, 7):
        number = said(page).split()[2]
        assert [e.page for e in parsed.elements if number in e.text] == [page], page
    assert 100 < watch.peak < 1_000, watch.peak


def test_a_longer_text_takes_hardly_more_memory(tmp_path: Path) -> None:
    peaks = []
    for pages in (20, 200):
        data = text_pdf(tmp_path / "text.pdf", pages).read_bytes()
        with closing(ParserPool(children=1)) as readers:
            parsed = readers.parse(data, "text.pdf")
            peaks.append(readers.peak / 1e6)
        assert parsed.pages == pages
        assert said(pages) in " ".join(element.text for element in parsed.elements)
    assert peaks[1] < peaks[0] + 60, peaks  # all the text is held once, no page is
