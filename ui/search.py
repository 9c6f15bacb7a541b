"""The tab that searches: a query, how to search, and hits with the score of every leg."""

import gradio as gr

from app.client import ApiClient
from app.problems import ApiProblem
from app.schemas import SearchRequest
from ui.render import hits_html, problem_html
from ui.wiring import CLICKS, quietly, words_of
from ui.words import Words

MODES = ("hybrid", "dense", "words")
COUNTS = (5, 10, 20, 50)


def search_tab(client: ApiClient, collection: gr.Dropdown, i18n: gr.I18n) -> gr.HTML:
    """Lays the tab out and wires it; returns the hits, whose clicks open passages."""
    with gr.Row(elem_id="zn-search-row"):
        query = gr.Textbox(
            show_label=False,
            label=i18n("query"),
            placeholder=i18n("query_hint"),
            max_length=4000,
            container=False,
            scale=10,
            min_width=160,
            elem_id="zn-query",
        )
        go = gr.Button(i18n("search"), variant="primary", scale=0, min_width=84, elem_id="zn-go")
    with gr.Row(elem_id="zn-how"):
        mode = gr.Radio(
            choices=[(i18n(name), name) for name in MODES],
            value="hybrid",
            label=i18n("mode"),
            scale=3,
            min_width=260,
            elem_id="zn-mode",
        )
        rerank = gr.Checkbox(
            value=True, label=i18n("rerank"), scale=1, min_width=110, elem_id="zn-rerank"
        )
        top_k = gr.Radio(
            choices=list(COUNTS), value=10, label=i18n("top_k"), scale=2, elem_id="zn-top-k"
        )
    hits = gr.HTML(elem_id="zn-hits", js_on_load=CLICKS, apply_default_css=False)

    async def searched(
        text: str,
        chosen: str,
        way: str,
        again: bool,  # noqa: FBT001  # Gradio passes by position
        count: int,
        request: gr.Request,
    ) -> str:
        words = words_of(request)
        if not text.strip():
            return nothing_yet(words)
        asked = SearchRequest(
            query=text.strip()[:4000],
            collection=chosen,
            mode=way if way in MODES else "hybrid",
            rerank=again,
            top_k=count,
        )
        try:
            return hits_html(await client.search(asked), text, words)
        except ApiProblem as problem:
            return problem_html(problem, words)

    quietly(
        [query.submit, go.click],
        searched,
        [query, collection, mode, rerank, top_k],
        [hits],
    )
    return hits


def nothing_yet(words: Words) -> str:
    """What stands where hits will be."""
    return f'<div class="zn-empty">{words.search_empty}</div>'
