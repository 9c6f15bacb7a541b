"""Text that a browser does not show is not read, and text that it shows is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.parse.html import read_html


def texts(page: str) -> str:
    return " ".join(element.text for element in read_html(page)[0])


HIDDEN = {
    "attribute": "<p hidden>PLANTED</p>",
    "attribute-until-found": "<div hidden=until-found><p>PLANTED</p></div>",
    "display": "<p style='display:none'>PLANTED</p>",
    "display-loud": "<p style='DISPLAY : NONE !important'>PLANTED</p>",
    "display-around": "<div style='display:none'><section><p>PLANTED</section></div>",
    "display-inline": "<p>seen <span style='display:none'>PLANTED</span> also</p>",
    "visibility": "<p style='visibility:hidden'>PLANTED</p>",
    "visibility-handed-down": "<div style='visibility:collapse'><p>PLANTED</p></div>",
    "size": "<p style='font-size:0'>PLANTED</p>",
    "size-one-pixel": "<p style='font-size:1px'>PLANTED</p>",
    "size-of-nothing": "<p style='font-size:0'><b style='font-size:2em'>PLANTED</b></p>",
    "size-in-font": "<p style='font:0/0 serif'>PLANTED</p>",
    "opacity": "<p style='opacity:0'>PLANTED</p>",
    "opacity-small": "<p style='opacity:.01'>PLANTED</p>",
    "colour": "<p style='color:#fff;background:white'>PLANTED</p>",
    "colour-in-rgb": "<p style='color:rgb(10,20,30);background-color:#0a141e'>PLANTED</p>",
    "colour-of-the-page": "<p style='color:white'>PLANTED</p>",
    "colour-of-what-is-around": "<div style='background:#000'><p style='color:#010101'>PLANTED</p></div>",
    "colour-transparent": "<p style='color:transparent'>PLANTED</p>",
    "font-tag": "<p><font color=white>PLANTED</font></p>",
    "cell": "<table><tr><td>a<td>b<tr><td>c<td bgcolor=black style='color:#000'>PLANTED</table>",
    "off-screen": "<p style='position:absolute;left:-9999px'>PLANTED</p>",
    "off-screen-em": "<p style='position:fixed; top:-999em'>PLANTED</p>",
    "indent": "<p style='text-indent:-9999px'>PLANTED</p>",
    "clip": "<p style='position:absolute;clip:rect(0,0,0,0)'>PLANTED</p>",
    "clip-path": "<p style='clip-path:inset(50%)'>PLANTED</p>",
    "flat": "<p style='height:0;overflow:hidden'>PLANTED</p>",
    "class": "<style>.h{display:none}</style><p class='x h'>PLANTED</p>",
    "id": "<style>#h{visibility:hidden}</style><p id=h>PLANTED</p>",
    "tag": "<style>aside{font-size:0}</style><aside>PLANTED</aside>",
    "several": "<style>a, .b > i, p.h span{opacity:0}</style><p class=h>so <span>PLANTED</span></p>",
    "rule-after-another": "<style>.h{display:block}.h{display:none}</style><p class=h>PLANTED</p>",
    "rule-loud": "<style>.h{display:none!important}#h{display:block}</style>"
    "<p class=h id=h style='display:block'>PLANTED</p>",
    "rule-of-a-screen": "<style>@media screen{.h{display:none}}</style><p class=h>PLANTED</p>",
    "rule-of-a-wide-screen": "<style>@media (min-width:40em){.h{display:none}}</style><p class=h>PLANTED</p>",
    "rule-in-a-comment": "<style><!-- /* x */ .h{display:none} --></style><p class=h>PLANTED</p>",
    "rules-for-colour": "<style>.a{background:navy}.b{color:navy}</style><p class='a b'>PLANTED</p>",
    "rule-behind-an-error": "<style>}}{ p[ {x} .h{display:none}</style><p class=h>PLANTED</p>"
    "<style>.h{display:none}</style>",
    "template": "<template><p>PLANTED</p></template>",
    "noscript": "<noscript><p>PLANTED</p></noscript>",
    "comment": "<!-- PLANTED --><p>x <!-- PLANTED --> y</p>",
}  # fmt: skip
SHOWN = {
    "aria": "<p aria-hidden=true>VISIBLE</p>",
    "display-again": "<style>.t{display:none}.t.on{display:block}</style><p class='t on'>VISIBLE</p>",
    "more-exact": "<style>#a p{display:block}p{display:none}</style><div id=a><p>VISIBLE</p></div>",
    "attribute-and-display": "<p hidden style='display:block'>VISIBLE</p>",
    "visible-inside": "<div style='visibility:hidden'><p style='visibility:visible'>VISIBLE</p></div>",
    "sized-inside": "<div style='font-size:0'><p style='font-size:14px'>VISIBLE</p></div>",
    "print": "<style>@media print{p{display:none}}</style><p>VISIBLE</p>",
    "narrow": "<style>@media (max-width:600px){p{display:none}}</style><p>VISIBLE</p>",
    "wide": "<style>p{display:none}@media (min-width:768px){p{display:block}}</style><p>VISIBLE</p>",
    "pointer": "<style>p:hover{display:none}p::before{display:none}</style><p>VISIBLE</p>",
    "whole-page": "<style>body{opacity:0;visibility:hidden}html{display:none;font-size:0}</style><body><p>VISIBLE</p>",
    "white-on-dark": "<style>body{background:#123}</style><p style='color:white'>VISIBLE</p>",
    "white-on-a-picture": "<div style='background:url(a.png)'><p style='color:white'>VISIBLE</p></div>",
    "white-on-what-is-elsewhere": "<link rel=stylesheet href=a.css><p style='color:white'>VISIBLE</p>",
    "white-on-what-is-imported": "<style>@import 'a.css';</style><p style='color:white'>VISIBLE</p>",
    "white-on-what-is-not-understood": "<style>:unknown(p){background:#000}</style><p style='color:white'>VISIBLE</p>",
    "white-on-a-cell": "<table><tr><td>a<td>b<tr><td>c<td bgcolor=navy><font color=white>VISIBLE</font></table>",
    "letters-cut-from-a-picture": "<p style='background:linear-gradient(red,blue);color:transparent'>VISIBLE</p>",
    "pulled-a-little": "<p style='position:relative;left:-9999px'>VISIBLE</p>",
    "behind-what-is-hidden": "<p><i style='display:none'>x</i>VISIBLE</p>",
    "details": "<details><summary>s</summary>VISIBLE</details>",
    "nonsense": "<p style='display:none'style='display:block' >x</p><p style='color:;;}{:none'>VISIBLE</p>",
    "size-without-a-unit": "<p style='font-size:1'>VISIBLE</p>",
    "too-long-a-style": f"<p style='{'display:none;' * 2000}'>VISIBLE</p>",
}  # fmt: skip


@pytest.mark.parametrize("case", HIDDEN)
def test_what_is_not_shown_is_not_read(case: str) -> None:
    read = texts(f"<html><body><p>Before.</p>{HIDDEN[case]}<p>After.</p></body></html>")
    assert "PLANTED" not in read
    assert "Before." in read
    assert "After." in read


@pytest.mark.parametrize("case", SHOWN)
def test_what_is_shown_is_read(case: str) -> None:
    assert "VISIBLE" in texts(f"<html>{SHOWN[case]}</html>")


def test_text_behind_a_hidden_element_stays_and_so_does_its_order() -> None:
    page = "<p>one <b style='display:none'>x</b>two <i style='visibility:hidden'>y</i>three</p>"
    assert texts(page).split() == ["one", "two", "three"]


@given(
    css=st.text("{}()[];:,.#>~+*@!'\"/\\ \nabdeinosply0-%", max_size=60),
    style=st.text("{}();:!'/\\ abdeinosply0-%", max_size=30),
)
@settings(deadline=None, max_examples=150)
def test_any_styles_end_and_leave_the_page_s_other_text(css: str, style: str) -> None:
    page = f"<style>.k{{color:red}} {css}</style><p class=k style='{style}'>x</p>"
    read_html(page)
    kept = f"<style>.gone {{ {style.replace('}', '').replace('/', '')} }}</style><p>KEPT</p>"
    assert "KEPT" in texts(kept)


@pytest.mark.parametrize(
    "css",
    [
        "(" * 100_000,
        "{" * 100_000,
        ":not(" * 3_000 + "p" + ")" * 3_000 + "{display:none}",
        "p," * 100_000 + "p{display:none}",
        "p ~ p ~ p ~ p{display:none}" * 200,
        "p:nth-child(2n+1){display:none}" * 200,
        "* " * 1_000 + "{display:none}",
        "@media screen{" * 20_000,
    ],
    ids=["round", "curly", "not", "list", "siblings", "nth", "deep", "media"],
)
def test_hostile_rules_end_and_leave_the_rest(css: str) -> None:
    """Without bounds on depth and on work these raise RecursionError or take minutes."""
    page = f"<style>{css}</style><h1>Title</h1>" + "<p>text</p>" * 3_000
    assert texts(page).startswith("Title")
