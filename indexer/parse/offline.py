"""The one place that keeps `unstructured` from the network.

It fetches spaCy's English model at first use and counts its users at import. Both are switched off
here: a blank multilingual pipeline that knows the ends of Chinese and English sentences is enough,
since headings and lists are told apart by styles and tags, not by grammar. Two of its habits take
minutes for texts made to harm, and tell only kinds apart that are one to us (narrative, address,
plain): spaCy's prefixes and suffixes, and the pattern of American addresses. Both are switched off.
"""

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spacy.language import Language

_SWITCHES = {
    "DO_NOT_TRACK": "true",
    "SCARF_NO_ANALYTICS": "true",
    "UNSTRUCTURED_DISABLE_NOTICE": "1",
}
_NOTHING = re.compile(r"(?!)")
_SENTENCE_ENDS = list(".!?。！？；…")


def go_offline() -> None:
    """Call before anything of `unstructured.partition` is imported; calling again changes nothing."""
    for name, value in _SWITCHES.items():
        os.environ.setdefault(name, value)
    from unstructured.nlp import tokenize
    from unstructured.partition import text_type

    if tokenize._load_spacy_model is not _blank:  # noqa: SLF001 - the only seam there is
        tokenize._load_spacy_model = _blank  # noqa: SLF001
        setattr(text_type, "US_CITY_STATE_ZIP_RE", _NOTHING)  # noqa: B010 - it is not exported


def _blank() -> "Language":
    import spacy
    from spacy.tokenizer import Tokenizer

    pipeline = spacy.blank("xx")
    pipeline.tokenizer = Tokenizer(pipeline.vocab)  # words at spaces: linear in the text's length
    pipeline.add_pipe("sentencizer", config={"punct_chars": _SENTENCE_ENDS})
    return pipeline
