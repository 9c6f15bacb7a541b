"""Questions that the sample documents answer, offered where those documents are."""

from collections.abc import Iterable, Mapping

from ui.words import Language

QUESTIONS: Mapping[Language, Mapping[str, str]] = {
    Language.CHINESE: {
        "员工手册.docx": "当年没有休完的年休假最多可以结转几天？",
        "产品保修说明.pdf": "延长保修最多可以延长几次？",
        "CX-200 用户手册.md": "故障代码 E08 是什么意思？",
    },
    Language.ENGLISH: {
        "Employee travel policy.pdf": "How soon after a trip must the expense report be submitted?",
        "CX-200 service manual.docx": "How long must I wait after switching off before opening a cover?",
        "Security guidelines.md": "How many characters must a password have at least?",
    },
}
"""By language, the file name of the sample that answers and the question."""


def questions_for(filenames: Iterable[str], language: Language) -> list[str]:
    """The questions in this language that the named files answer, and one in the other language."""
    present = set(filenames)

    def offered(spoken: Language) -> list[str]:
        return [question for name, question in QUESTIONS[spoken].items() if name in present]

    other = Language.ENGLISH if language is Language.CHINESE else Language.CHINESE
    return [*offered(language), *offered(other)[:1]]
