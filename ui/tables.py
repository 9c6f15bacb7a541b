"""Documents and collections as HTML. Pure; everything foreign is escaped here."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from html import escape

from app.job_schemas import JobOut
from app.schemas import (
    CollectionOut,
    DocumentOut,
    ReadyOut,
    SimilarOut,
)
from ui.progress import OVER, bar, share, stage
from ui.render import EXTRACTIVE
from ui.words import Words

_UNITS = ("B", "KB", "MB", "GB")
_KINDS = {
    "application/pdf": "PDF",
    "text/html": "HTML",
    "application/xhtml+xml": "HTML",
    "text/markdown": "Markdown",
    "text/plain": "TXT",
    "text/csv": "CSV",
    "message/rfc822": "EML",
    "application/epub+zip": "EPUB",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "DOCX",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "PPTX",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "XLSX",
    "application/msword": "DOC",
    "application/vnd.ms-powerpoint": "PPT",
    "application/vnd.ms-excel": "XLS",
    "application/vnd.ms-outlook": "MSG",
    "application/vnd.oasis.opendocument.text": "ODT",
    "application/vnd.oasis.opendocument.presentation": "ODP",
    "application/vnd.oasis.opendocument.spreadsheet": "ODS",
    "application/rtf": "RTF",
    "application/json": "JSON",
    "application/jsonl": "JSONL",
    "text/tab-separated-values": "TSV",
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/tiff": "TIFF",
    "image/webp": "WebP",
    "application/zip": "ZIP",
    "application/x-tar": "TAR",
    "application/gzip": "GZ",
    "application/x-bzip2": "BZ2",
    "application/x-xz": "XZ",
}


def documents_html(
    documents: Sequence[DocumentOut],
    jobs: Mapping[str, JobOut],
    *,
    asking: str | None,
    more: bool,
    filtered: bool,
    words: Words,
) -> str:
    """The documents of a collection; `asking` is the one whose deletion waits for a yes."""
    if not documents:
        return f'<div class="zn-empty">{words.no_matches if filtered else words.no_documents}</div>'
    heads = "".join(
        f'<th class="{style}">{head}</th>'
        for head, style in (
            (words.name, ""),
            (words.kind, ""),
            (words.pages, "zn-num"),
            (words.chunks, "zn-num"),
            (words.size, "zn-num"),
            (words.status, ""),
            (words.changed, ""),
            ("", ""),
        )
    )
    rows = "".join(
        _document(document, jobs, words, asked=asking == document.id)
        for document in _families(documents)
    )
    note = (
        f'<p class="zn-note">{words.documents_more.format(count=len(documents))}</p>'
        if more
        else ""
    )
    return f'<div class="zn-table"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>{note}'


def _families(documents: Sequence[DocumentOut]) -> list[DocumentOut]:
    """What came out of a document follows it, by name; all else stays in its order."""
    listed = {document.id for document in documents}
    below: dict[str, list[DocumentOut]] = {}
    for document in documents:
        if document.parent in listed:
            below.setdefault(document.parent or "", []).append(document)

    def family(document: DocumentOut) -> Iterator[DocumentOut]:
        yield document
        for member in sorted(below.pop(document.id, ()), key=lambda one: one.filename):
            yield from family(member)

    tops = [document for document in documents if document.parent not in listed]
    shown = [one for top in tops for one in family(top)]
    return [*shown, *(one for left in list(below.values()) for one in left)]  # none is lost


def _members(document: DocumentOut, words: Words) -> str:
    if document.members is None:
        return ""
    counts = words.members_read.format(read=document.members.read, total=document.members.total)
    return f'<span class="zn-tag">{counts}</span>'


def _source(document: DocumentOut, words: Words) -> str:
    if document.source is None:
        return ""
    return f'<div class="zn-alike">{words.source} <bdi>{escape(document.source)}</bdi></div>'


def _document(
    document: DocumentOut, jobs: Mapping[str, JobOut], words: Words, *, asked: bool
) -> str:
    version = (
        f'<span class="zn-tag">v{document.version}</span>' if (document.version or 0) > 1 else ""
    )
    error = f'<div class="zn-row-error">{escape(document.error)}</div>' if document.error else ""
    alike = "".join(_alike(other, words) for other in document.similar[:1])
    inside = " zn-member" if document.parent else ""
    cells = (
        f'<td class="zn-name{inside}" data-label="{words.name}"><bdi class="zn-file">{escape(document.filename)}</bdi>'
        f"{version}{_members(document, words)}{_source(document, words)}{error}{alike}</td>"
        f'<td data-label="{words.kind}">{escape(kind(document))}</td>'
        f'<td class="zn-num" data-label="{words.pages}">{document.pages or "–"}</td>'
        f'<td class="zn-num" data-label="{words.chunks}">{document.chunks}</td>'
        f'<td class="zn-num" data-label="{words.size}">{size(document.size)}</td>'
        f'<td data-label="{words.status}">{_status(document, jobs, words)}</td>'
        f'<td class="zn-time" data-label="{words.changed}">{moment(document.updated)}</td>'
    )
    if not asked:
        button = (
            f'<button type="button" class="zn-quiet" data-event="delete" data-document="{escape(document.id)}"'
            f">{words.delete}</button>"
        )
        job = _steer(document, words)
        return f'<tr data-row="{escape(document.id)}">{cells}<td class="zn-act">{job}{button}</td></tr>'
    count = document.members.total if document.members else 0
    sentence = words.delete_archive if count else words.delete_document
    question = confirm(
        sentence.format(name=document.filename, count=count), "document", document.id, words
    )
    return (
        f'<tr data-row="{escape(document.id)}" class="zn-asked">{cells}<td class="zn-act"></td></tr>'
        f'<tr class="zn-asking"><td colspan="8">{question}</td></tr>'
    )


def _steer(document: DocumentOut, words: Words) -> str:
    """The button that stops an open job, or starts one again that did not end well."""
    if document.job_id is None or document.status == "ready":
        return ""
    event, label = (
        ("stop", words.stop) if document.status == "processing" else ("retry", words.retry)
    )
    return (
        f'<button type="button" class="zn-quiet" data-event="{event}" data-job="{escape(document.job_id)}">'
        f"{label}</button>"
    )


def _alike(other: SimilarOut, words: Words) -> str:
    line = words.similar.format(share=round(100 * other.share), name=other.filename)
    return f'<div class="zn-alike">{escape(line)}</div>'


def _status(document: DocumentOut, jobs: Mapping[str, JobOut], words: Words) -> str:
    match document.status:
        case "ready":
            return f'<span class="zn-pill zn-pill-ready">{words.ready}</span>'
        case "failed":
            return f'<span class="zn-pill zn-pill-failed">{words.failed}</span>'
        case "processing":
            job = jobs.get(document.job_id or "")
            if job is None or job.status in OVER:
                return f'<span class="zn-pill">{words.processing}</span>'
            if job.status == "queued" and job.stage != "publish":
                return f'<span class="zn-pill">{words.states["queued"]}</span>'
            return f'<span class="zn-pill">{escape(stage(job, words))}</span>{bar(share(job))}'


def confirm(question: str, kind_of: str, name: str, words: Words, *, yes: str | None = None) -> str:
    """A question with its yes (event `submit`; that of a deletion, unless `yes` says another) and no (event `clear`);
    both carry `data-<kind_of>`.
    """
    value = f'data-{kind_of}="{escape(name)}"'
    return (
        f'<div class="zn-confirm" role="alertdialog"><span>{escape(question)}</span>'
        f'<span class="zn-confirm-acts">'
        f'<button type="button" class="zn-danger" data-event="submit" {value}>{yes or words.delete_yes}</button>'
        f'<button type="button" class="zn-quiet" data-event="clear" {value}>{words.cancel}</button>'
        f"</span></div>"
    )


def collections_html(
    collections: Sequence[CollectionOut], *, asking: str | None, current: str, words: Words
) -> str:
    """The collections; the one in use is marked, and `default` can't be deleted from here."""
    rows = []
    for collection in collections:
        holds = words.collection_holds.format(
            documents=collection.documents, chunks=collection.chunks
        )
        use = " zn-current" if collection.name == current else ""
        button = (
            ""
            if collection.name == "default"
            else f'<button type="button" class="zn-quiet" data-event="delete" '
            f'data-collection="{escape(collection.name)}">{words.delete}</button>'
        )
        question = (
            confirm(
                words.delete_collection.format(
                    name=collection.name, documents=collection.documents
                ),
                "collection",
                collection.name,
                words,
            )
            if asking == collection.name
            else ""
        )
        rows.append(
            f'<div class="zn-collection{use}"><span><bdi class="zn-file">'
            f"{escape(collection_label(collection.name, words))}</bdi>"
            f'<span class="zn-holds">{holds}</span></span>{button}</div>{question}'
        )
    return f'<div class="zn-collections">{"".join(rows)}</div>'


def collection_label(name: str, words: Words) -> str:
    """The name of a collection as shown; `default` has a name of ours."""
    return words.default_collection if name == "default" else name


def header_html(ready: ReadyOut | None, words: Words) -> str:
    """Name, tagline, and which models answer; `ready` None means that the API can't be reached."""
    if ready is None:
        state, line = "off", words.offline
    else:
        chat = ready.models.get("answers", EXTRACTIVE)
        line = words.model_extractive if chat == EXTRACTIVE else words.model_chat.format(model=chat)
        state = "on" if ready.ready else "off"
    return (
        f'<div class="zn-header"><span class="zn-logo" aria-hidden="true"></span>'
        f'<span class="zn-titles"><h1>{words.product}</h1><span>{words.tagline}</span></span>'
        f'<span class="zn-live zn-{state}">{escape(line)}</span></div>'
    )


def kind(document: DocumentOut) -> str:
    """The type of a document in a word."""
    known = _KINDS.get(document.media_type.split(";")[0].strip())
    suffix = document.filename.rpartition(".")[2] if "." in document.filename else ""
    return known or suffix.upper() or document.media_type


def size(count: int) -> str:
    """Bytes in the unit that reads best.

    >>> size(812), size(20480), size(3_500_000)
    ('812 B', '20 KB', '3.3 MB')
    """
    value = float(count)
    unit = 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return (
        f"{value:.0f} {_UNITS[unit]}" if unit < 2 or value >= 100 else f"{value:.1f} {_UNITS[unit]}"
    )


def moment(seconds: float, zone: tzinfo | None = None) -> str:
    """Seconds since 1970 as a date and time in a zone, the server's where none is given."""
    return datetime.fromtimestamp(seconds).astimezone(zone).strftime("%Y-%m-%d %H:%M")
