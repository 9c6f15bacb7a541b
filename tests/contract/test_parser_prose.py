"""The parsers of the contract on pages, Markdown, Word, mail and plain text: what the libraries would lose."""

from email.message import EmailMessage

import docx
from drafts import PARSER, Draft, Section, as_docx, saved

from pipeline.types import ElementKind


def test_no_text_of_a_page_is_lost_but_navigation() -> None:
    page = """<html><body><nav><a href=/>Home</a></nav><header><h1>Title <a class=headerlink>¶</a></h1>
    </header>bare <b>bold</b> text<div>in div<p>para <a href=x>link</a></p>tail</div><p>5</p>
    <details><summary>sum</summary>detail</details><figure><img src=x><figcaption>figure</figcaption>
    </figure><form><label>label</label></form><custom>custom <p>inner</p></custom>
    <ul><li>one<ul><li>nested<p>deep</p></li></ul></li></ul><dl><dt>term<dd>meaning</dl>
    <pre>a:\n  b</pre><p>第一行<br>第二行</p><p>中文\n换行</p><aside>remark</aside><main>main</main>after
    <div class="navbar"><a href=a>A</a> <a href=b>B</a></div><footer>since 1999</footer></body></html>"""
    parsed = PARSER.parse(page.encode(), "a.html")
    assert [element.text for element in parsed.elements] == [
        "Title", "bare bold text", "in div", "para link", "tail", "5", "sum", "detail", "figure",
        "label", "custom", "inner", "one", "nested", "deep", "term", "meaning", "a:\n  b",
        "第一行\n第二行", "中文换行", "remark", "main", "after", "since 1999",
    ]  # fmt: skip


def test_placeholders_in_markdown_stay_and_front_matter_gives_the_title() -> None:
    text = "---\ntitle: 手册\n---\nRun <command> with &lt;x&gt;\n- item\n  - nested\n\n```\n# code\n```\n"
    parsed = PARSER.parse(text.encode(), "a.md")
    assert parsed.title == "手册"
    assert [(element.text, element.kind) for element in parsed.elements] == [
        ("title: 手册", ElementKind.PARAGRAPH),
        ("Run <command> with <x>", ElementKind.PARAGRAPH),
        ("item", ElementKind.LIST_ITEM),
        ("nested", ElementKind.LIST_ITEM),
        ("# code", ElementKind.CODE),
    ]


def test_insertions_controls_boxes_and_notes_of_word_are_read_and_deletions_are_not() -> None:
    from docx.oxml import parse_xml

    names = (
        'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
        'xmlns:v="urn:schemas-microsoft-com:vml"'
    )
    document = docx.Document()
    run_of = "<w:r><w:t>{}</w:t></w:r>".format
    blocks = (
        f"<w:p {names}>{run_of('一')}<w:ins>{run_of('插入')}</w:ins><w:del><w:r><w:delText>删除</w:delText>"
        f"</w:r></w:del><w:sdt><w:sdtContent>{run_of('控件')}</w:sdtContent></w:sdt></w:p>",
        f"<w:sdt {names}><w:sdtContent><w:p>{run_of('块')}</w:p></w:sdtContent></w:sdt>",
        f"<w:p {names}>{run_of('锚')}<w:r><w:pict><v:shape><v:textbox><w:txbxContent><w:p>{run_of('框')}"
        "</w:p></w:txbxContent></v:textbox></v:shape></w:pict></w:r></w:p>",
    )
    for block in blocks:
        document.element.body.insert(-1, parse_xml(block))
    document.styles["Normal"]  # the default style stays
    styled = document.styles.add_style("标题 2", docx.enum.style.WD_STYLE_TYPE.PARAGRAPH)
    document.add_paragraph("中文标题", style=styled)
    document.sections[0].header.paragraphs[0].text = "页眉"
    parsed = PARSER.parse(saved(document.save), "a.docx")
    assert [(element.text, element.kind, element.level) for element in parsed.elements] == [
        ("页眉", ElementKind.FURNITURE, 0),
        ("一插入控件", ElementKind.PARAGRAPH, 0),
        ("块", ElementKind.PARAGRAPH, 0),
        ("锚", ElementKind.PARAGRAPH, 0),
        ("框", ElementKind.PARAGRAPH, 0),
        ("中文标题", ElementKind.HEADING, 2),
    ]


def test_a_mail_names_its_attachments_which_are_documents_of_their_own() -> None:
    message = EmailMessage()
    message["Subject"] = "报价单"
    message["From"] = "张三 <zhang@example.org>"
    message["Date"] = "Tue, 06 Jun 2023 09:30:00 +0800"
    message.set_content("各位好：\n\n请看附件。", charset="gb18030")
    message.add_alternative("<p>各位好：</p><p>请看附件。</p>", subtype="html")
    message.add_attachment(
        as_docx(Draft("手册", (Section("甲", ("一。", "二。")),))),
        maintype="application", subtype="octet-stream", filename="手册.docx",
    )  # fmt: skip
    message.add_attachment(b"\x89PNG\r\n\x1a\n", maintype="image", subtype="png", filename="x.png")
    inner = EmailMessage()
    inner["Subject"] = "转发"
    inner.set_content("里面的信。")
    message.add_attachment(inner)
    parsed = PARSER.parse(message.as_bytes(), "a.eml")
    assert parsed.title == "报价单"
    assert [(element.text, element.heading) for element in parsed.elements] == [
        (
            "From: 张三 <zhang@example.org>\nDate: Tue, 06 Jun 2023 09:30:00 +0800\nSubject: 报价单\n"
            "Attachments: 手册.docx, x.png, 转发.eml",
            (),
        ),
        ("各位好：", ()),
        ("请看附件。", ()),
    ]


def test_wrapped_plain_text_is_joined_and_verse_is_not() -> None:
    text = (
        "    This is a paragraph that an editor wrapped at its margin, in-\n"
        "    vented here; it goes on for a while, until it ends in a short\n"
        "    line.\n    Then another one follows without an empty line between.\n\n"
        "《送别》\n作者：王维\n下马饮君酒，问君何所之。\n%\n1. 第一项\n2. 第二项\n"
    )
    assert [element.text for element in PARSER.parse(text.encode(), "a.txt").elements] == [
        "This is a paragraph that an editor wrapped at its margin, invented here; it goes on for a "
        "while, until it ends in a short line.",
        "Then another one follows without an empty line between.",
        "《送别》\n作者：王维\n下马饮君酒，问君何所之。",
        "1. 第一项",
        "2. 第二项",
    ]
