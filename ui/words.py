"""Which words the interface needs; `words_zh` and `words_en` say them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum


class Language(StrEnum):
    """The languages of the interface."""

    CHINESE = "zh"
    ENGLISH = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The words of one language; `{names}` in them are filled in with `str.format`."""

    language: Language
    product: str
    tagline: str
    collection: str
    default_collection: str
    model_extractive: str
    model_chat: str
    offline: str
    unreachable_title: str
    unreachable: str
    problem_title: str

    tab_ask: str
    question: str
    question_hint: str
    send: str
    stop: str
    new_conversation: str
    empty_title: str
    empty_text: str
    empty_no_documents: str
    empty_waiting: str
    examples: str
    searching: str
    reading: str
    stopped: str
    refused_title: str
    refused_hint: str
    sources: str
    extractive: str
    written_by: str
    weak: str
    unsupported: str
    seconds: str

    page: str
    slide: str
    table_cells: str
    version: str
    open_passage: str
    open_original: str
    close: str
    passage: str
    page_picture: str
    characters: str
    passage_gone: str

    tab_documents: str
    upload: str
    upload_hint: str
    url_hint: str
    url_add: str
    uploads: str
    upload_duplicate: str
    upload_refused: str
    upload_waiting: str
    upload_done: str
    upload_failed: str
    upload_counts: str
    clear_uploads: str
    documents: str
    documents_count: str
    documents_more: str
    similar: str
    no_documents: str
    no_matches: str
    filter_documents: str
    refresh: str
    name: str
    kind: str
    size: str
    pages: str
    chunks: str
    status: str
    changed: str
    members_read: str
    source: str
    ready: str
    processing: str
    failed: str
    retry: str
    retry_all: str
    retried_all: str
    files_failed: str
    per_second: str
    per_minute: str
    seconds_left: str
    minutes_left: str
    hours_left: str
    delete: str
    delete_document: str
    delete_archive: str
    delete_yes: str
    cancel: str
    deleted_document: str
    collections: str
    collection_new: str
    collection_name: str
    create: str
    created_collection: str
    collection_holds: str
    delete_collection: str
    deleted_collection: str
    untitled: str
    upkeep: str
    upkeep_none: str
    reindex: str
    reindex_ask: str
    reindex_yes: str
    reindex_nothing: str
    reindex_back: str
    reindex_back_ask: str
    reindex_back_yes: str
    evaluate: str
    begun: str
    schedules: str
    schedules_none: str
    schedules_more: str
    schedule_new: str
    schedule_kind: str
    schedule_folder: str
    schedule_days: str
    schedule_when: str
    schedule_zone: str
    schedule_hint: str
    schedule_add: str
    schedule_added: str
    schedule_after: str
    schedule_next: str
    schedule_last: str
    schedule_remove: str
    schedule_remove_ask: str
    schedule_removed: str

    tab_search: str
    query: str
    query_hint: str
    search: str
    mode: str
    hybrid: str
    dense: str
    words: str
    rerank: str
    top_k: str
    hits: str
    no_hits: str
    search_empty: str
    score: str

    legs: Mapping[str, str] = field(default_factory=dict)
    stages: Mapping[str, str] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)


def preferred(accept_language: str | None) -> Language:
    """The language of the first tag of an `Accept-Language` header: Chinese for every `zh`, else English.

    >>> preferred("zh-TW,zh;q=0.9,en;q=0.8")
    <Language.CHINESE: 'zh'>
    >>> preferred(None)
    <Language.ENGLISH: 'en'>
    """
    first = (accept_language or "").split(",")[0].split(";")[0].strip().lower()
    return Language.CHINESE if first.split("-")[0] == "zh" else Language.ENGLISH


def flat(words: Words) -> dict[str, str]:
    """The plain strings of a language by name, as the browser's translations want them."""
    return {key: value for key, value in asdict(words).items() if type(value) is str}
