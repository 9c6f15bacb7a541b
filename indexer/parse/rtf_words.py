"""The control words of rich text: tokens, characters, code pages and destinations."""

import codecs
import re

TOKEN = re.compile(
    r"\\([a-zA-Z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z])|([{}])|[\r\n]+|([^\\{}\r\n]+)"
)
CHARACTERS = {
    "tab": "\t", "line": "\n", "lbr": "\n", "emdash": "—", "endash": "–", "bullet": "•",
    "lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”", "emspace": " ",
    "enspace": " ", "qmspace": " ", "nestcell": " ", "nestrow": "\n", "zwj": "\u200d",
    "zwnj": "\u200c",
}  # fmt: skip
SYMBOLS = {"\\": "\\", "{": "{", "}": "}", "~": "\u00a0", "_": "-", "-": ""}
CHARSETS = {
    128: "cp932", 129: "cp949", 130: "johab", 134: "gb18030", 136: "big5hkscs", 161: "cp1253",
    162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251",
    222: "cp874", 238: "cp1250",
}  # fmt: skip
WIDER = {936: "gb18030", 950: "big5hkscs", 65001: "utf-8"}
BODY, SKIPPED, FONTS, STYLES, TITLE, AUTHOR = "body skipped fonts styles title author".split()
RUNNING, NOTE, REMARK = "running note remark".split()
OWN_TEXT = frozenset({RUNNING, NOTE, REMARK})
DESTINATIONS = {
    "fonttbl": FONTS, "stylesheet": STYLES, "title": TITLE, "footnote": NOTE, "shptxt": NOTE,
    "annotation": REMARK, "atnauthor": AUTHOR,
    **dict.fromkeys(
        ("header headerl headerr headerf footer footerl footerr footerf").split(), RUNNING
    ),
    **dict.fromkeys(
        "colortbl info pict fldinst listtable listoverridetable revtbl rsidtbl generator xmlnstbl "
        "themedata colorschememapping datastore latentstyles objdata sp shprslt nonshppict "
        "nonesttables nesttableprops bkmkstart bkmkend filetbl pn tc xe upr atnid atnref atntime "
        "atndate atnparent atnicn ftnsep ftnsepc aftnsep aftnsepc private mmathPr".split(),
        SKIPPED,
    ),
}  # fmt: skip
TRANSPARENT = frozenset({"shpinst", "ud"})
"""Groups that old readers may skip, with text that is shown."""


def known(codec: str) -> str | None:
    """The name of a codec that is there, None for another."""
    try:
        return codecs.lookup(codec).name
    except LookupError:
        return None
