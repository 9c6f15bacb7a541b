"""The shelf of collections beside the uploads: choose a name to make one, ask before one is deleted."""

from dataclasses import dataclass

import gradio as gr

from app.client import ApiClient
from app.problems import ApiProblem
from ui.render import notice, problem_html
from ui.tables import collection_label, collections_html
from ui.wiring import CLICKS, named, quietly, words_of
from ui.words import Words


@dataclass(frozen=True, slots=True)
class Shelf:
    """The components of the shelf."""

    list: gr.HTML
    name: gr.Textbox
    create: gr.Button


def collection_shelf(i18n: gr.I18n) -> Shelf:
    """Lays the shelf out."""
    gr.HTML(elem_classes="zn-title", value=i18n("collections"), apply_default_css=False)
    shown = gr.HTML(elem_id="zn-shelf", js_on_load=CLICKS, apply_default_css=False)
    with gr.Row(elem_id="zn-create"):
        name = gr.Textbox(
            show_label=False,
            label=i18n("collection_name"),
            placeholder=i18n("collection_name"),
            max_length=100,
            container=False,
            scale=4,
            min_width=120,
            elem_id="zn-collection-name",
        )
        create = gr.Button(i18n("create"), scale=0, min_width=76, elem_id="zn-create-button")
    return Shelf(shown, name, create)


def wire_shelf(client: ApiClient, shelf: Shelf, collection: gr.Dropdown, said: gr.HTML) -> None:
    """Binds the shelf to the API, to the selector of the page and to where it says what was done."""

    async def created(wish: str, request: gr.Request) -> tuple[object, ...]:
        words = words_of(request)
        try:
            made = await client.create_collection(wish.strip())
        except ApiProblem as problem:
            return problem_html(problem, words), gr.skip(), gr.skip(), gr.skip()
        said_so = notice(words.created_collection.format(name=made.name))
        html = await shelved(client, made.name, words)
        return said_so, html, await menu(client, made.name, words), ""

    async def asked(event: gr.EventData, chosen: str, request: gr.Request) -> str:
        words = words_of(request)
        return await shelved(client, chosen, words, asking=named(event, "collection"))

    async def reshelved(chosen: str, request: gr.Request) -> str:
        return await shelved(client, chosen, words_of(request))

    async def deleted(event: gr.EventData, chosen: str, request: gr.Request) -> tuple[object, ...]:
        words, name = words_of(request), named(event, "collection")
        try:
            await client.delete_collection(name)
            message = notice(words.deleted_collection.format(name=name))
        except ApiProblem as problem:
            message = problem_html(problem, words)
        now = "default" if chosen == name else chosen
        return message, await shelved(client, now, words), await menu(client, now, words)

    making = [shelf.create.click, shelf.name.submit]
    quietly(making, created, [shelf.name], [said, shelf.list, collection, shelf.name])
    quietly([shelf.list.delete], asked, [collection], [shelf.list])
    quietly([shelf.list.clear, collection.change], reshelved, [collection], [shelf.list])
    quietly([shelf.list.submit], deleted, [collection], [said, shelf.list, collection])


async def shelved(
    client: ApiClient, collection: str, words: Words, *, asking: str | None = None
) -> str:
    """The collections as HTML, `collection` marked as the one in use."""
    try:
        collections = await client.collections()
    except ApiProblem as problem:
        return problem_html(problem, words)
    return collections_html(collections, asking=asking, current=collection, words=words)


async def menu(client: ApiClient, collection: str, words: Words) -> dict[str, object]:
    """The update of the collection selector: `collection` where it exists, else `default`."""
    try:
        names = [one.name for one in await client.collections()]
    except ApiProblem:
        names = []
    names = sorted({"default", *names}, key=lambda name: (name != "default", name))
    chosen = collection if collection in names else "default"
    return gr.update(
        choices=[(collection_label(name, words), name) for name in names], value=chosen
    )
