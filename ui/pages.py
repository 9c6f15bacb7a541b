"""The page: header, three tabs, and the panel that shows a passage."""

import asyncio
from pathlib import Path
from typing import cast

import gradio as gr

from app.client import ApiClient
from app.problems import ApiProblem
from ui.ask import ask_tab
from ui.collections import menu, shelved
from ui.conversation import Conversation, opening
from ui.documents import documents_tab
from ui.files import viewed
from ui.jobs import upkeep
from ui.passages import Passage, panel, panel_notice
from ui.schedules import kinds_menu, timetable
from ui.search import nothing_yet, search_tab
from ui.tables import header_html
from ui.wiring import quietly, words_of
from ui.words import Words, flat
from ui.words_en import ENGLISH
from ui.words_zh import CHINESE

TITLE = "Zhinao RAG"
STYLE = Path(__file__).with_name("style.css")
FRAME = Path(__file__).with_name("frame.css")
SIMULTANEOUS = 32
"""Events of one kind that are worked on at the same time."""
WAITING = 256
"""Events that may wait for their turn; more are told that the page is busy."""
_LOOK_EVERY_S = 0.05
"""Gradio looks a thousand times a second whether somebody clicked: 6 % of a core of a server that nobody uses."""

PANEL = """
const close = () => { props.value = ''; };
element.addEventListener('click', (event) => { if (event.target.closest('[data-close]')) close(); });
document.addEventListener('keydown', (event) => { if (event.key === 'Escape' && props.value) close(); });
element.addEventListener('error', (event) => { event.target.closest('.zn-picture')?.remove(); }, true);
watch('value', () => {
  const quote = element.querySelector('mark');
  if (!quote) return;
  const body = element.querySelector('.zn-panel-body');
  body.scrollTop = Math.max(0, quote.offsetTop - body.clientHeight / 3);
  element.querySelector('.zn-close').focus({preventScroll: true});
});
"""
"""The panel empties itself in the browser, scrolls to the quote when it is filled, and drops a picture that fails."""

FONTS = (
    "-apple-system",
    "BlinkMacSystemFont",
    "Segoe UI",
    "Arial",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
    "WenQuanYi Zen Hei",
    "sans-serif",
)
MONOSPACE = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def translations() -> gr.I18n:
    """Both languages by the tags that browsers send; every kind of Chinese gets ours."""
    chinese = flat(CHINESE)
    tags = ("zh", "zh-CN", "zh-TW", "zh-HK", "zh-SG", "zh-Hans", "zh-Hant")
    return gr.I18n(en=flat(ENGLISH), **dict.fromkeys(tags, chinese))


def theme() -> gr.themes.Base:
    """A light theme from system fonts: nothing is fetched, and dark mode looks the same."""
    made = gr.themes.Base(
        primary_hue="teal",
        neutral_hue="slate",
        radius_size="md",
        font=[gr.themes.Font(name) for name in FONTS],
        font_mono=[gr.themes.Font(name) for name in MONOSPACE],
    ).set(
        body_background_fill="#f7f8fa",
        block_border_width="1px",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_text_color="#ffffff",
        input_background_fill="#ffffff",
        input_border_color="#d0d5dd",
        input_border_color_focus="#0f766e",
    )
    for name in [name for name in vars(made) if name.endswith("_dark")]:
        light = getattr(made, name.removesuffix("_dark"))
        # Gradio reads these itself and wants a value; for the others None means "as in light mode".
        setattr(made, name, light if name.startswith("body_") else None)
    return made


def build(client: ApiClient) -> gr.Blocks:
    """The whole interface over `client`; all state is kept per session."""
    i18n = translations()
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        with gr.Row(elem_id="zn-top"):
            header = gr.HTML(elem_id="zn-head", apply_default_css=False, scale=5)
            collection = gr.Dropdown(
                choices=["default"],
                value="default",
                label=i18n("collection"),
                show_label=False,
                container=False,
                filterable=False,
                scale=1,
                min_width=180,
                elem_id="zn-collection",
            )
        with gr.Tabs(elem_id="zn-tabs"):
            with gr.Tab(i18n("tab_ask"), id="ask"):
                ask = ask_tab(client, collection, i18n)
            with gr.Tab(i18n("tab_documents"), id="documents"):
                documents = documents_tab(client, collection, i18n)
            with gr.Tab(i18n("tab_search"), id="search"):
                hits = search_tab(client, collection, i18n)
        passage = gr.HTML(elem_id="zn-passage", js_on_load=PANEL, apply_default_css=False)

        async def opened(event: gr.EventData, request: gr.Request) -> str:
            data = event._data  # noqa: SLF001  # its attributes raise on a missing name
            where = Passage.parse(data) if isinstance(data, dict) else None
            return await passage_html(client, where, words_of(request))

        async def loaded(request: gr.Request) -> tuple[object, ...]:
            words = words_of(request)
            tab = asyncio.gather(
                viewed(client, "default", "", None, words),
                upkeep(client, "default", words),
                timetable(client, "default", words),
            )
            top, hello, shelf, choices = await asyncio.gather(
                head(client, words),
                opening(client, "default", words),
                shelved(client, "default", words),
                menu(client, "default", words),
            )
            view, (jobs, going), clock = await tab
            files = view.outputs(words)
            upkept = jobs, gr.Timer(active=going), clock, kinds_menu(words)
            return top, hello, *files, *upkept, shelf, choices, nothing_yet(words)

        async def looked_again(
            so_far: Conversation, chosen: str, request: gr.Request
        ) -> tuple[object, object]:
            # Examples appear by themselves when the samples are ready, and the page when the API is back.
            words = words_of(request)
            hello = gr.skip() if so_far else await opening(client, chosen, words)
            return await head(client, words), hello

        watched = [ask.exchanges, collection]
        quietly([documents.timer.tick], looked_again, watched, [header, ask.conversation])
        quietly([ask.conversation.click, hits.click], opened, None, [passage])
        quietly(
            [page.load],
            loaded,
            None,
            [
                header,
                ask.conversation,
                documents.batch,
                documents.waiting,
                documents.table,
                documents.timer,
                documents.jobs.list,
                documents.jobs.timer,
                documents.timetable.list,
                documents.timetable.kind,
                documents.shelf,
                collection,
                hits,
            ],
        )
    page.queue(default_concurrency_limit=SIMULTANEOUS, max_size=WAITING)
    page._queue.sleep_when_free = _LOOK_EVERY_S  # noqa: SLF001  (it has no other way)
    return cast(gr.Blocks, page)


async def head(client: ApiClient, words: Words) -> str:
    """The header, with what answers at the moment."""
    try:
        return header_html(await client.ready(), words)
    except ApiProblem:
        return header_html(None, words)


async def passage_html(client: ApiClient, passage: Passage | None, words: Words) -> str:
    """The panel for a place; a sentence in it where the document or the place is gone."""
    if passage is None:
        return panel_notice(words.passage, words.passage_gone, words)
    try:
        text = await client.text(passage.document, passage.version)
        table = ""
        if passage.table is not None:
            marks = f"{passage.start}-{passage.end}"
            table = await client.table(passage.document, passage.table, passage.version, marks)
    except ApiProblem as problem:
        sentence = words.passage_gone if problem.status == 404 else problem.detail
        return panel_notice(words.passage, sentence, words)
    return panel(passage, text, words, table)
