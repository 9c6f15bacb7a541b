"""What the page shows: nothing foreign becomes HTML, marks and links hit the exact words."""

import json
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from app.job_schemas import JobOut, ScheduleOut
from app.problems import ApiProblem
from app.schemas import (
    AskResponse,
    CitationOut,
    CollectionOut,
    DocumentOut,
    HitOut,
    MembersOut,
    SearchResponse,
    SentenceOut,
    SimilarOut,
    UploadedOut,
    UsageOut,
)
from pipeline.types import JobKind, JobStatus
from ui.jobs import jobs_html
from ui.passages import Passage, panel, place
from ui.progress import Upload, uploads_html
from ui.render import (
    Exchange,
    answer_html,
    conversation,
    hits_html,
    laid_out,
    notice,
    problem_html,
    welcome,
)
from ui.samples import QUESTIONS, questions_for
from ui.schedules import schedules_html
from ui.tables import collections_html, documents_html
from ui.words import Language, Words, flat, preferred
from ui.words_en import ENGLISH
from ui.words_zh import CHINESE

EVIL = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>${alert(3)}{{value}}`&amp;"
ALLOWED = {
    "a", "article", "aside", "bdi", "button", "div", "footer", "h2", "h3", "header", "i", "mark", "p", "q", "section",
    "figcaption", "figure", "span", "table", "tbody", "td", "th", "thead", "tr",
}  # fmt: skip


class Seen(HTMLParser):
    """Tags, attributes and text of an HTML text, as a browser would read them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.marks: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "mark":
            self.marks.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "mark" in self._open:
            self.marks[-1] += data

    def of(self, style: str) -> list[dict[str, str | None]]:
        return [a for _, a in self.tags if style in str(a.get("class", "")).split()]


def citation(marker: int = 1, quote: str = "员工有十五天年假。", **changes: object) -> CitationOut:
    values: dict[str, object] = {
        "marker": marker, "document_id": "d1", "version": 2, "filename": "手册.pdf", "page": 3,
        "heading": ["第二章", "假期"], "quote": quote, "start": 10, "end": 10 + len(quote), "chunk_id": "c",
        "boxes": [],
    }  # fmt: skip
    return CitationOut.model_validate(values | changes)


def answer(**changes: object) -> AskResponse:
    base = AskResponse(
        id="a",
        answer="员工有十五天年假。[1] 病假另计。[1][2]",
        sentences=[
            SentenceOut(text="员工有十五天年假。", markers=[1], support=1, verdict="supported"),
            SentenceOut(text="病假另计。", markers=[1, 2], support=0.5, verdict="weak"),
        ],
        citations=[citation(1), citation(2, "病假另计。")],
        mode="chunks",
        refused=False,
        model="extractive",
        usage=UsageOut(prompt_tokens=0, completion_tokens=0),
        timings_ms={"total": 1234.0},
    )
    return base.model_copy(update=changes)


def hit(**changes: object) -> HitOut:
    values: dict[str, object] = {
        "rank": 1, "chunk_id": "c", "document_id": "d1", "version": 1, "filename": "手册.pdf", "page": None,
        "heading": [], "text": "员工有十五天年假。", "start": 0, "end": 9, "score": 0.5, "scores": {"dense": 0.8},
    }  # fmt: skip
    return HitOut.model_validate(values | changes)


def job_of(status: str, **how: object) -> JobOut:
    made = JobOut(
        id="j", kind="reindex", status=status, stage="fill", done=5, total=20, error=None, collection="default",
        document_id=None, filename=None, attempts=1, created=0, updated=0,
    )  # fmt: skip
    return made.model_copy(update=how)


def evil_pages() -> dict[str, str]:
    return {
        "answer": answer_html(
            answer(
                answer=EVIL,
                model=EVIL,
                sentences=[SentenceOut(text=EVIL, markers=[1], support=0, verdict="unsupported")],
                citations=[citation(quote=EVIL, filename=EVIL, heading=[EVIL], document_id=EVIL)],
            ),
            ENGLISH,
        ),
        "refusal": answer_html(answer(answer=EVIL, refused=True), CHINESE),
        "provisional": conversation((Exchange(EVIL, found=2, text=EVIL),), "", ENGLISH),
        "problem": problem_html(ApiProblem(EVIL, EVIL, 500), CHINESE),
        "notice": notice(EVIL),
        "examples": welcome([EVIL], ENGLISH.empty_text, ENGLISH),
        "hits": hits_html(
            SearchResponse(
                hits=[hit(text=EVIL, filename=EVIL, heading=[EVIL], scores={EVIL: 1.0})],
                timings_ms={},
            ),
            "script alert img",
            CHINESE,
        ),
        "panel": panel(Passage("d", 1, 4, 9, EVIL, 1, EVIL, 1, EVIL), EVIL * 9, ENGLISH),
        "jobs": jobs_html(
            [
                job_of("done", kind=EVIL, stage=EVIL, error=EVIL, id=EVIL),
                job_of("running", kind=EVIL, stage=EVIL, error=EVIL, id=EVIL),
                job_of(EVIL, kind=EVIL, stage=EVIL, error=EVIL, id=EVIL),
            ],
            EVIL,
            ENGLISH,
            asking="back",
        ),
        "schedules": schedules_html(
            [
                ScheduleOut(
                    id=EVIL,
                    kind=EVIL,
                    collection=EVIL,
                    when=EVIL,
                    zone=EVIL,
                    payload={"folder": EVIL},
                    next=0,
                    last=0,
                    job_id="j",
                )
            ],
            {"j": job_of("failed", error=EVIL, kind=EVIL)},
            ENGLISH,
            asking=EVIL,
        ),
        "collections": collections_html(
            [CollectionOut(name=EVIL, rerank=True, documents=1, chunks=1, created=0)],
            asking=EVIL,
            current=EVIL,
            words=ENGLISH,
        ),
        "uploads": uploads_html(
            [
                Upload(
                    UploadedOut(
                        id=None,
                        filename=EVIL,
                        job_id=None,
                        status=EVIL,
                        duplicate=False,
                        error=EVIL,
                    )
                )
            ],
            CHINESE,
        ),
    }


@pytest.mark.parametrize("page", evil_pages())
def test_nothing_foreign_becomes_markup(page: str) -> None:
    html = evil_pages()[page]
    seen = Seen(html)
    pictures = [attributes for tag, attributes in seen.tags if tag == "img"]
    for picture in pictures:
        assert str(picture.pop("src")).startswith("/documents/")
    assert {tag for tag, _ in seen.tags} - {"img"} <= ALLOWED
    for _, attributes in seen.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
        assert (
            str(attributes.get("href", "/")).startswith("/documents/")
            or attributes.get("href") is None
        )
    assert "<script" not in html
    if page != "panel":
        assert "alert(1)" in seen.text


def test_nothing_foreign_becomes_markup_in_the_list_of_documents(api) -> None:
    for one in list(api.documents.values()):
        api.documents[one.id] = one.model_copy(
            update={
                "filename": EVIL,
                "error": EVIL,
                "status": "failed",
                "media_type": EVIL,
                "id": EVIL,
                "similar": [SimilarOut(document_id=EVIL, filename=EVIL, share=0.934)],
                "source": EVIL,
                "parent": EVIL,
                "members": MembersOut(total=3, read=2),
            }
        )
    html = documents_html(
        list(api.documents.values()), {}, asking=EVIL, more=True, filtered=False, words=ENGLISH
    )
    seen = Seen(html)
    assert {tag for tag, _ in seen.tags} <= ALLOWED
    assert seen.text.count("alert(1)") >= 5
    assert "93 % the same as" in seen.text
    assert "2 of 3 files read" in seen.text
    assert "and the documents that came out of it (3 files)?" in seen.text


def test_what_came_out_of_an_archive_stands_below_it_in_the_list(api) -> None:
    some = next(iter(api.documents.values()))

    def row(name: str, parent: str | None) -> DocumentOut:
        return some.model_copy(update={"id": name, "filename": name, "parent": parent})

    newest_first = [
        row("z.txt", None),
        row("a.zip/b.zip/c.txt", "a.zip/b.zip"),
        row("a.zip/z.txt", "a.zip"),
        row("a.zip/b.zip", "a.zip"),
        row("a.zip", None),
        row("elsewhere.zip/d.txt", "not listed"),
    ]
    html = documents_html(newest_first, {}, asking=None, more=False, filtered=False, words=ENGLISH)
    shown = [tag["data-row"] for kind, tag in Seen(html).tags if kind == "tr" and "data-row" in tag]
    assert shown == [
        "z.txt",
        "a.zip",
        "a.zip/b.zip",
        "a.zip/b.zip/c.txt",
        "a.zip/z.txt",
        "elsewhere.zip/d.txt",
    ]


def test_each_sentence_is_followed_by_links_to_its_citations() -> None:
    seen = Seen(answer_html(answer(), CHINESE))
    assert "员工有十五天年假。[1] 病假另计。[1][2]" in seen.text
    links = seen.of("zn-marker")
    assert [link["data-start"] for link in links] == ["10", "10", "10"]
    assert [link["data-end"] for link in links] == ["19", "19", "15"]
    assert {link["href"] for link in links} == {"/documents/d1/content?version=2#page=3"}


def test_a_marker_without_a_citation_is_not_a_link() -> None:
    seen = Seen(answer_html(answer(citations=[citation(1)]), CHINESE))
    assert len(seen.of("zn-marker")) == 2


def test_each_citation_has_a_card_with_file_page_heading_and_quote() -> None:
    seen = Seen(answer_html(answer(), CHINESE))
    assert len(seen.of("zn-card")) == 2
    for words in ("手册.pdf", "第 3 页", "第二章 › 假期", "病假另计。"):
        assert words in seen.text


def test_an_extractive_answer_says_that_it_is_one() -> None:
    assert "摘录式回答：由文档原句组成" in answer_html(answer(), CHINESE)
    written = answer_html(answer(model="360Zhinao-7B"), CHINESE)
    assert "摘录式" not in written
    assert "360Zhinao-7B" in written


def test_a_refusal_is_a_note_without_sources() -> None:
    seen = Seen(answer_html(answer(refused=True, citations=[], sentences=[]), CHINESE))
    assert seen.of("zn-refused")
    assert not seen.of("zn-card")


def test_line_breaks_between_sentences_stay_and_markers_in_the_text_go() -> None:
    sentences = [
        SentenceOut(text=text, markers=[], support=1, verdict="supported")
        for text in ("A.", "B.", "C.")
    ]
    assert [gap for gap, _ in laid_out("A. [1]\n\nB.[2] C.", sentences)] == ["", "\n\n", " "]
    assert [one.text for _, one in laid_out("something else", sentences)] == ["A.", "B.", "C."]


def test_a_click_brings_the_place_back_unchanged() -> None:
    passage = Passage.of(citation(filename=EVIL, heading=['a"b', "<c>"], page=None))
    (link,) = Seen(f"<a {passage.attributes}></a>").tags
    data = {key.removeprefix("data-"): value for key, value in link[1].items()}
    assert Passage.parse(data) == passage


@pytest.mark.parametrize("data", [{}, {"document": "d", "version": "x", "start": "0", "end": "1"}])
def test_a_click_that_names_no_place_is_none(data: dict[str, object]) -> None:
    assert Passage.parse(data) is None


def test_the_panel_marks_exactly_the_quoted_code_points() -> None:
    text = "😀 <b>前文</b> & 引文😀的 <i>词</i>，后文。"
    start = text.index("引文")
    quote = "引文😀的 <i>词</i>"
    passage = Passage("d", 1, start, start + len(quote), "a.txt", None, "")
    seen = Seen(panel(passage, text, CHINESE))
    assert seen.marks == [quote]
    assert text in seen.text


def test_the_panel_shows_the_page_where_the_passage_stands_on_one() -> None:
    seen = Seen(panel(Passage("a/b", 2, 0, 4, "a.pdf", 7, ""), "kurz und gut", CHINESE))
    [image] = [attributes for tag, attributes in seen.tags if tag == "img"]
    assert image["src"] == "/documents/a%2Fb/pages/7?version=2&highlight=0-4"
    assert "第 7 页" in image["alt"]
    seen = Seen(panel(Passage("d", 2, 0, 4, "a.txt", None, ""), "kurz und gut", CHINESE))
    assert "img" not in [tag for tag, _ in seen.tags]


def test_a_cited_row_is_shown_in_its_table_and_with_text_around_it_below_the_text() -> None:
    text = "价目\n\n品名 | 单价\n螺栓 | 3 元"
    table = "<table><tr><td><mark>螺栓</mark></td></tr></table>"
    row = Passage("d", 1, text.index("螺栓"), len(text), "a.xlsx", None, "", 1, "价目!A2:B2")
    seen = Seen(panel(row, text, CHINESE, table))
    assert seen.marks == ["螺栓"]
    assert "|" not in seen.text
    assert "价目!A2:B2" in seen.text
    whole = Passage("d", 1, 0, len(text), "a.docx", None, "", 2, "A1:B2")
    seen = Seen(panel(whole, text, CHINESE, table))
    assert seen.marks == [text, "螺栓"]
    assert "表 2，A1:B2" in seen.text


def test_a_slide_is_called_a_slide() -> None:
    assert "第 7 张幻灯片" in Seen(place(Passage("d", 1, 0, 1, "a.PPTX", 7, ""), CHINESE)).text
    assert "slide 7" in Seen(place(Passage("d", 1, 0, 1, "a.ppt", 7, ""), ENGLISH)).text
    assert "page 7" in Seen(place(Passage("d", 1, 0, 1, "a.pdf", 7, ""), ENGLISH)).text


def test_what_a_click_names_is_the_passage_again() -> None:
    made = Passage("d", 2, 3, 9, "a.xlsx", None, "甲", 4, "'a \"b\"'!A1")
    [(_, attributes)] = Seen(f"<a {made.attributes}></a>").tags
    data = {name.removeprefix("data-"): value for name, value in attributes.items()}
    assert Passage.parse(data) == made


def test_a_passage_that_is_gone_is_said_in_the_panel() -> None:
    seen = Seen(panel(Passage("d", 1, 5, 99, "a.txt", None, ""), "kurz", CHINESE))
    assert seen.marks == []
    assert CHINESE.passage_gone in seen.text


def test_a_hit_shows_every_score_and_marks_the_words_of_the_query() -> None:
    response = SearchResponse(
        hits=[hit(scores={"dense": 0.8123, "words": 0.25, "phrase": 1.0, "rerank": 0.9})],
        timings_ms={"total": 8.0},
    )
    seen = Seen(hits_html(response, "年假", CHINESE))
    assert seen.marks == ["年假"]
    for words in ("重排0.900", "语义0.812", "词语0.250", "短语1.000"):
        assert words in seen.text


def test_jobs_show_kind_progress_and_figures_and_what_can_be_begun() -> None:
    compared = {"compared": {"before": 0.98, "after": 1.0}}
    figures = {"top_k": 10, "modes": {"hybrid": {"recall": 0.9, "mrr": 0.756}}}
    jobs = [
        job_of("running"),
        job_of("failed", error="the new one finds less"),
        job_of("done", result=compared),
        job_of("done", result={"switched": False}),
        job_of("done", kind="evaluate", result=figures),
    ]
    seen = Seen(jobs_html(jobs, "default", CHINESE))
    for words in (
        "重建索引",
        "建立索引 5 / 20",
        "失败",
        "the new one finds less",
        "98.0% → 100.0%",
        "无需重建",
        "recall@10 90.0%",
    ):
        assert words in seen.text
    assert [bar["aria-valuenow"] for bar in seen.of("zn-bar")] == ["25"]
    events = [(a["data-event"], a.get("data-act")) for tag, a in seen.tags if tag == "button"]
    begin = [("edit", "reindex"), ("edit", "back"), ("submit", "evaluate")]
    assert events == [*begin, ("stop", None), ("retry", None)]
    asked = Seen(jobs_html(jobs, "default", ENGLISH, asking="back"))
    assert "Search “Default collection” by the index before" in asked.text
    events = [(a["data-event"], a.get("data-act")) for tag, a in asked.tags if tag == "button"]
    assert events[3:5] == [("submit", "back"), ("clear", "back")]


def test_progress_shows_stage_count_and_share(api) -> None:
    sent = UploadedOut(
        id="d", filename="a.pdf", job_id="j", status="processing", duplicate=False, error=None
    )
    job = JobOut(
        id="j", kind="ingest", status="running", stage="embed", done=5, total=20, error=None, collection="default",
        document_id="d", filename="a.pdf", attempts=1, created=0, updated=0,
    )  # fmt: skip
    seen = Seen(uploads_html([Upload(sent, job)], CHINESE))
    assert "向量化 5 / 20" in seen.text
    assert seen.of("zn-bar")[0]["aria-valuenow"] == "25"
    failed = job.model_copy(update={"status": "failed", "error": "The file is encrypted."})
    assert "The file is encrypted." in uploads_html([Upload(sent, failed)], ENGLISH)
    assert not Upload(sent, failed).open
    assert Upload(sent, job).open


def test_a_duplicate_is_said() -> None:
    sent = UploadedOut(
        id="d", filename="a.pdf", job_id=None, status="ready", duplicate=True, error=None
    )
    assert CHINESE.upload_duplicate in uploads_html([Upload(sent)], CHINESE)
    assert not Upload(sent).open


def test_an_unreachable_service_is_said_in_the_reader_s_language() -> None:
    problem = ApiProblem("Unreachable", "The service at http://x cannot be reached.", None)
    assert CHINESE.unreachable in problem_html(problem, CHINESE)
    assert ENGLISH.unreachable in problem_html(problem, ENGLISH)


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", Language.CHINESE),
        ("zh", Language.CHINESE),
        ("ZH-Hant-HK;q=0.9", Language.CHINESE),
        ("en-GB,en;q=0.9,zh;q=0.8", Language.ENGLISH),
        ("fr", Language.ENGLISH),
        ("", Language.ENGLISH),
        (None, Language.ENGLISH),
    ],
)
def test_the_first_language_of_the_browser_decides(header: str | None, language: Language) -> None:
    assert preferred(header) is language


def test_both_languages_fill_the_same_places() -> None:
    def places(text: str) -> list[str]:
        return sorted(part.split("}")[0] for part in text.split("{")[1:])

    chinese, english = flat(CHINESE), flat(ENGLISH)
    assert chinese.keys() == english.keys()
    for key, text in chinese.items():
        assert text, key
        assert english[key], key
        assert places(text) == places(english[key]), key
    assert CHINESE.legs.keys() == ENGLISH.legs.keys()
    assert CHINESE.stages.keys() == ENGLISH.stages.keys()
    assert CHINESE.kinds.keys() == ENGLISH.kinds.keys() == {kind.value for kind in JobKind}
    assert CHINESE.states.keys() == ENGLISH.states.keys() == {each.value for each in JobStatus}
    assert len(fields(Words)) == len(chinese) + 5  # language, legs, stages, kinds, states


def test_only_an_awaited_exchange_is_open() -> None:
    asked = Exchange("?")
    assert asked.open
    assert not replace(asked, stopped=True).open
    assert not replace(asked, answer=answer()).open
    assert not replace(asked, problem=ApiProblem("t", "d", 500)).open


def test_examples_are_offered_for_the_samples_that_are_there() -> None:
    assert questions_for(["my own.pdf"], Language.CHINESE) == []
    here = ["Security guidelines.md", "员工手册.docx", "产品保修说明.pdf"]
    chinese = questions_for(here, Language.CHINESE)
    assert [QUESTIONS[Language.CHINESE][name] for name in here[1:]] == chinese[:2]
    assert questions_for(here, Language.ENGLISH)[0] == chinese[2]


def test_every_example_is_a_question_that_the_samples_answer() -> None:
    lines = (
        (Path(__file__).parents[3] / "app/samples/questions.jsonl").read_text("utf-8").splitlines()
    )
    answered = {(row["file"], row["question"]) for row in map(json.loads, lines)}
    offered = {pair for questions in QUESTIONS.values() for pair in questions.items()}
    assert offered <= answered
