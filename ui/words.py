"""Every word of the interface, in Chinese and in English."""

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

    html_language: str
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
    version: str
    open_passage: str
    open_original: str
    close: str
    passage: str
    characters: str
    passage_gone: str

    tab_documents: str
    upload: str
    upload_hint: str
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
    ready: str
    processing: str
    failed: str
    delete: str
    delete_document: str
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


CHINESE = Words(
    html_language="zh-CN",
    product="智脑文档问答",
    tagline="每一句回答，都指向原文",
    collection="文档集",
    default_collection="默认文档集",
    model_extractive="摘录式回答",
    model_chat="对话模型 {model}",
    offline="服务未连接",
    unreachable_title="连接不上服务",
    unreachable="服务没有应答，请稍后再试；若一直如此，请检查服务是否在运行。",
    problem_title="请求没有完成",
    tab_ask="问答",
    question="问题",
    question_hint="就文档提问，按回车发送",
    send="发送",
    stop="停止",
    new_conversation="新对话",
    empty_title="向您的文档提问",
    empty_text="回答只来自已上传的文档。每句话后面的编号都可以点开，直接看到原文中的那一段；没有依据时会如实说明。",
    empty_no_documents="这个文档集还没有文档。请先到“文档”页上传。",
    examples="可以这样问",
    searching="正在检索……",
    reading="找到 {count} 个相关片段，正在作答……",
    stopped="已停止。",
    refused_title="文档中没有找到依据",
    refused_hint="可以换一种问法，或者先上传相关的文档。",
    sources="引用",
    extractive="摘录式回答：由文档原句组成",
    written_by="由 {model} 撰写，句末编号为依据",
    weak="引文对这句话的支持较弱",
    unsupported="没有引文支持这句话",
    seconds="{seconds} 秒",
    page="第 {page} 页",
    version="版本 {version}",
    open_passage="在原文中查看",
    open_original="打开原文件",
    close="关闭",
    passage="原文",
    characters="字符 {start}–{end}",
    passage_gone="这一段原文已经不在了：文档可能已被删除或替换。",
    tab_documents="文档",
    upload="上传文档",
    upload_hint="PDF、Word、PowerPoint、Excel、CSV、HTML、Markdown、TXT、邮件、EPUB，可一次选择多个",
    uploads="上传进度",
    upload_duplicate="内容相同的文档已经存在，没有重复处理",
    upload_refused="没有接收：{error}",
    upload_waiting="排队中",
    upload_done="完成，可以提问了",
    upload_failed="失败：{error}",
    upload_counts="{done} / {total}",
    clear_uploads="清除已完成",
    documents="文档",
    documents_count="{count} 个文档",
    documents_more="只显示前 {count} 个文档，请用名称筛选。",
    no_documents="还没有文档。把文件拖到上面即可开始。",
    no_matches="没有名称相符的文档。",
    filter_documents="按名称筛选",
    refresh="刷新",
    name="名称",
    kind="类型",
    size="大小",
    pages="页数",
    chunks="片段",
    status="状态",
    changed="更新时间",
    ready="可用",
    processing="处理中",
    failed="失败",
    delete="删除",
    delete_document="删除“{name}”？它会立即从所有回答中消失，不能恢复。",
    delete_yes="确认删除",
    cancel="取消",
    deleted_document="已删除“{name}”（{chunks} 个片段）。",
    collections="文档集",
    collection_new="新建文档集",
    collection_name="文档集名称",
    create="新建",
    created_collection="已新建文档集“{name}”。",
    collection_holds="{documents} 个文档 · {chunks} 个片段",
    delete_collection="删除文档集“{name}”和其中的 {documents} 个文档？不能恢复。",
    deleted_collection="已删除文档集“{name}”。",
    untitled="（无名称）",
    tab_search="搜索",
    query="查询",
    query_hint="输入关键词或一句话",
    search="搜索",
    mode="方式",
    hybrid="混合",
    dense="语义",
    words="词语",
    rerank="重排序",
    top_k="结果数",
    hits="{count} 条结果",
    no_hits="没有找到结果。可以换个说法，或改用“混合”方式。",
    search_empty="在文档集中查找段落，并查看每一路的得分。",
    score="得分",
    legs={
        "dense": "语义",
        "words": "词语",
        "phrase": "短语",
        "fused": "融合",
        "rerank": "重排",
    },
    stages={
        "queued": "排队中",
        "parse": "解析",
        "parsing": "解析",
        "chunk": "切分",
        "chunking": "切分",
        "embed": "向量化",
        "embedding": "向量化",
        "publish": "发布",
        "publishing": "发布",
        "done": "完成",
    },
)

ENGLISH = Words(
    html_language="en",
    product="Zhinao RAG",
    tagline="Every sentence points at its source",
    collection="Collection",
    default_collection="Default collection",
    model_extractive="Extractive answers",
    model_chat="Chat model {model}",
    offline="Not connected",
    unreachable_title="The service cannot be reached",
    unreachable="The service does not answer. Try again shortly; if it lasts, check that it is running.",
    problem_title="The request was not completed",
    tab_ask="Ask",
    question="Question",
    question_hint="Ask about your documents; Enter sends",
    send="Send",
    stop="Stop",
    new_conversation="New conversation",
    empty_title="Ask your documents",
    empty_text="Answers come from the uploaded documents only. The number after each sentence opens the "
    "exact passage behind it, and when nothing supports an answer you are told so.",
    empty_no_documents="This collection has no documents yet. Upload some under “Documents” first.",
    examples="Try one of these",
    searching="Searching…",
    reading="Found {count} passages, answering…",
    stopped="Stopped.",
    refused_title="Nothing in the documents supports an answer",
    refused_hint="Try other words, or upload a document about it first.",
    sources="Sources",
    extractive="Extractive answer: made of the documents’ own sentences",
    written_by="Written by {model}; the numbers are its evidence",
    weak="The quote supports this sentence only weakly",
    unsupported="No quote supports this sentence",
    seconds="{seconds} s",
    page="page {page}",
    version="version {version}",
    open_passage="See it in the document",
    open_original="Open the original",
    close="Close",
    passage="Passage",
    characters="characters {start}–{end}",
    passage_gone="This passage is gone: the document may have been deleted or replaced.",
    tab_documents="Documents",
    upload="Upload documents",
    upload_hint="PDF, Word, PowerPoint, Excel, CSV, HTML, Markdown, TXT, e-mail, EPUB; several at once",
    uploads="Uploads",
    upload_duplicate="A document with the same content is already here; nothing was done twice",
    upload_refused="Not taken: {error}",
    upload_waiting="Waiting",
    upload_done="Done, ready for questions",
    upload_failed="Failed: {error}",
    upload_counts="{done} / {total}",
    clear_uploads="Clear finished",
    documents="Documents",
    documents_count="{count} documents",
    documents_more="Only the first {count} documents are shown; filter by name to see others.",
    no_documents="No documents yet. Drop files above to begin.",
    no_matches="No document has such a name.",
    filter_documents="Filter by name",
    refresh="Refresh",
    name="Name",
    kind="Type",
    size="Size",
    pages="Pages",
    chunks="Chunks",
    status="Status",
    changed="Updated",
    ready="Ready",
    processing="Processing",
    failed="Failed",
    delete="Delete",
    delete_document="Delete “{name}”? It leaves all answers at once and cannot be restored.",
    delete_yes="Yes, delete",
    cancel="Cancel",
    deleted_document="Deleted “{name}” ({chunks} chunks).",
    collections="Collections",
    collection_new="New collection",
    collection_name="Name of the collection",
    create="Create",
    created_collection="Created the collection “{name}”.",
    collection_holds="{documents} documents · {chunks} chunks",
    delete_collection="Delete the collection “{name}” and its {documents} documents? This cannot be undone.",
    deleted_collection="Deleted the collection “{name}”.",
    untitled="(no name)",
    tab_search="Search",
    query="Query",
    query_hint="Keywords or a sentence",
    search="Search",
    mode="Mode",
    hybrid="Hybrid",
    dense="Meaning",
    words="Words",
    rerank="Rerank",
    top_k="Results",
    hits="{count} results",
    no_hits="Nothing was found. Try other words, or the mode “Hybrid”.",
    search_empty="Find passages in the collection and see the score of every leg.",
    score="Score",
    legs={
        "dense": "meaning",
        "words": "words",
        "phrase": "phrase",
        "fused": "fused",
        "rerank": "rerank",
    },
    stages={
        "queued": "Waiting",
        "parse": "Parsing",
        "parsing": "Parsing",
        "chunk": "Splitting",
        "chunking": "Splitting",
        "embed": "Embedding",
        "embedding": "Embedding",
        "publish": "Publishing",
        "publishing": "Publishing",
        "done": "Done",
    },
)

WORDS: Mapping[Language, Words] = {Language.CHINESE: CHINESE, Language.ENGLISH: ENGLISH}


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
    return {key: value for key, value in asdict(words).items() if isinstance(value, str)}
