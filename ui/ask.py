"""The tab that asks: a conversation whose answers stream in, with links to the passages behind them."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import gradio as gr

from app.schemas import AskRequest, Turn
from ui.client import ApiClient, ApiProblem, Finished, Retrieved, Token
from ui.render import Exchange, conversation, welcome
from ui.samples import questions_for
from ui.wiring import CLICKS, named, quietly, words_of
from ui.words import Words

REDRAWN_EVERY = 0.08
"""Seconds between two redraws while tokens stream in."""
REMEMBERED = 10
"""Exchanges sent along as history."""

FOLLOW = """
let asked = 0;
watch('value', () => {
  const page = document.scrollingElement;
  const count = element.querySelectorAll('.zn-exchange').length;
  const near = page.scrollHeight - page.scrollTop - page.clientHeight < 320;
  if (count && (count > asked || near)) page.scrollTo({top: page.scrollHeight});
  asked = count;
});
"""
"""A new question is scrolled into view; what streams in is followed unless the reader scrolled up."""

Conversation = tuple[Exchange, ...]


@dataclass(frozen=True, slots=True)
class AskTab:
    """The components that other parts of the page listen to."""

    conversation: gr.HTML
    exchanges: gr.State


def ask_tab(client: ApiClient, collection: gr.Dropdown, i18n: gr.I18n) -> AskTab:
    """Lays the tab out and wires it; every session has its own conversation."""
    exchanges = gr.State(())
    shown = gr.HTML(elem_id="zn-conversation", js_on_load=CLICKS + FOLLOW, apply_default_css=False)
    with gr.Row(elem_id="zn-composer"):
        question = gr.Textbox(
            show_label=False,
            label=i18n("question"),
            placeholder=i18n("question_hint"),
            lines=1,
            max_lines=5,
            max_length=4000,
            scale=10,
            min_width=120,
            container=False,
            elem_id="zn-question",
        )
        send = gr.Button(i18n("send"), variant="primary", scale=0, min_width=84, elem_id="zn-send")
        stop = gr.Button(
            i18n("stop"), variant="stop", scale=0, min_width=84, visible=False, elem_id="zn-stop"
        )
        fresh = gr.Button(i18n("new_conversation"), scale=0, min_width=96, elem_id="zn-new")

    async def asked(
        event: gr.EventData, typed: str, so_far: Conversation, chosen: str, request: gr.Request
    ) -> AsyncIterator[tuple[object, ...]]:
        words = words_of(request)
        text = (named(event, "question") or typed).strip()[:4000]
        if not text:
            yield gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.skip()
            return
        drawn = 0.0
        async for exchange in exchanged(client, text, so_far, chosen):
            if exchange.text and exchange.open and time.monotonic() - drawn < REDRAWN_EVERY:
                continue
            drawn = time.monotonic()
            now = (*so_far, exchange)
            open_ = exchange.open
            yield (
                conversation(now, "", words),
                now,
                "",
                gr.update(visible=not open_),
                gr.update(visible=open_),
            )

    async def stopped(so_far: Conversation, request: gr.Request) -> tuple[object, ...]:
        now = tuple(replace(one, stopped=True) if one.open else one for one in so_far)
        return (
            conversation(now, "", words_of(request)),
            now,
            gr.update(visible=True),
            gr.update(visible=False),
        )

    async def cleared(chosen: str, request: gr.Request) -> tuple[object, ...]:
        return (
            await opening(client, chosen, words_of(request)),
            (),
            gr.update(visible=True),
            gr.update(visible=False),
        )

    asking = quietly(
        [question.submit, send.click, shown.select],
        asked,
        [question, exchanges, collection],
        [shown, exchanges, question, send, stop],
        trigger_mode="once",
    )
    quietly([stop.click], stopped, [exchanges], [shown, exchanges, send, stop], cancels=[asking])
    quietly(
        [fresh.click, collection.change],
        cleared,
        [collection],
        [shown, exchanges, send, stop],
        cancels=[asking],
    )
    return AskTab(shown, exchanges)


async def opening(client: ApiClient, collection: str, words: Words) -> str:
    """The conversation before its first question; says what can be asked of the samples."""
    try:
        documents = (await client.documents(collection)).documents
    except ApiProblem:
        # The tab of documents says what is wrong; the first question will say it here.
        return conversation((), welcome((), words.empty_text, words), words)
    names = [document.filename for document in documents if document.version is not None]
    waiting = not names and any(document.status == "processing" for document in documents)
    sentence = words.empty_text if names else words.empty_no_documents
    sentence = words.empty_waiting if waiting else sentence
    return conversation((), welcome(questions_for(names, words.language), sentence, words), words)


async def exchanged(
    client: ApiClient, question: str, so_far: Conversation, collection: str
) -> AsyncIterator[Exchange]:
    """The exchange as it grows; the last one is not `open`."""
    exchange = Exchange(question)
    yield exchange
    request = AskRequest(question=question, collection=collection, history=history(so_far))
    try:
        async for event in client.ask(request):
            match event:
                case Retrieved(hits=hits):
                    exchange = replace(exchange, found=len(hits))
                case Token(text=text):
                    exchange = replace(exchange, text=exchange.text + text)
                case Finished(answer=answer):
                    exchange = replace(exchange, answer=answer)
            yield exchange
    except ApiProblem as problem:
        yield replace(exchange, problem=problem)


def history(exchanges: Conversation) -> list[Turn]:
    """The last answered exchanges as turns; refused and broken ones say nothing to go on."""
    answered = [
        (one.question, one.answer.answer)
        for one in exchanges
        if one.answer is not None and not one.answer.refused
    ]
    turns: list[Turn] = []
    for question, answer in answered[-REMEMBERED:]:
        turns.append(Turn(role="user", content=question))
        turns.append(Turn(role="assistant", content=answer[:100_000]))
    return turns
