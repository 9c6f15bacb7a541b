"""The page in a real browser, against a real server: upload, ask, click a citation, read the quote in its place."""

import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlparse

import pytest
from packed import zipped
from processes import until
from rest import http

BROWSER, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
PATIENCE = 90
FACTS = (
    "Aurora pump AP-7: operating notes.",
    "The filter of the Aurora pump must be replaced every 400 hours of operation.",
    "The housing of the Aurora pump is made of bronze and weighs 31 kilograms.",
)
HOSTILE = (
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
    "${window.hacked = 3} {{value}} `quoted` The zephyrine valve opens at 7 bar & closes at <b>3</b> bar."
)
pytestmark = [pytest.mark.slow, pytest.mark.browser]


def pdf(lines: tuple[str, ...]) -> bytes:
    """A PDF of one page with one line of text below the other, and a right table of offsets."""
    drawn = "".join(f"({line}) Tj 0 -28 Td " for line in lines)
    content = f"BT /F1 13 Tf 60 760 Td {drawn}ET"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
        "/Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, offsets = "%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    out += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    return out.encode("ascii")


class Page:
    """One browser window on the page."""

    def __init__(self, driver, url: str) -> None:
        self.driver = driver
        self.url = url
        driver.get(url)
        self.find(".zn-live")
        self.find(".zn-welcome")

    def all(self, css: str) -> list:
        return self.driver.find_elements("css selector", css)

    def find(self, css: str, text: str = ""):
        """The first element that matches and says `text`, as soon as there is one."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        def seen(_driver):
            return next((one for one in self.all(css) if text in one.text), None)

        wait = WebDriverWait(
            self.driver, PATIENCE, 0.1, ignored_exceptions=[StaleElementReferenceException]
        )
        return wait.until(seen, f"nothing like {css} {text!r} appeared")

    def until(self, script: str) -> object:
        """What a script returns, as soon as that is something."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, PATIENCE, 0.1).until(
            lambda driver: driver.execute_script(script), f"{script} stayed false"
        )

    def gone(self, css: str) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, PATIENCE, 0.1).until(
            lambda _driver: not self.all(css), f"{css} stayed"
        )

    def click(self, css: str, text: str = "") -> None:
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        def clicked(_driver) -> bool:
            self.find(css, text).click()
            return True

        ignored = [StaleElementReferenceException]
        WebDriverWait(self.driver, PATIENCE, 0.1, ignored_exceptions=ignored).until(clicked)

    def type(self, css: str, text: str) -> None:
        from selenium.webdriver.common.keys import Keys

        self.find(css).send_keys(text, Keys.ENTER)

    def tab(self, number: int) -> None:
        self.all("button[role=tab]")[number].click()

    def upload(self, *paths: Path) -> None:
        self.tab(1)
        self.driver.find_element("css selector", "#zn-files input[type=file]").send_keys(
            "\n".join(map(str, paths))
        )

    def hacked(self) -> bool:
        return bool(self.driver.execute_script("return window.hacked"))

    def hosts(self) -> set[str]:
        """Every host that was asked for anything since the window opened."""
        entries = [
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        ]
        urls = [
            entry["params"]["request"]["url"]
            for entry in entries
            if entry["method"] == "Network.requestWillBeSent"
        ]
        return {urlparse(url).netloc for url in urls if not url.startswith(("data:", "blob:"))}


@pytest.fixture
def page(server) -> Iterator[Callable[..., Page]]:
    """Opens windows: `page("zh-CN")`, and with a width for a phone."""
    if not (Path(BROWSER).exists() and Path(DRIVER).exists()):
        reason = f"needs {BROWSER} and {DRIVER} (Debian: chromium, chromium-driver)"
        if os.environ.get("ZHINAO_TEST_STRICT") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from selenium import webdriver

    opened = []

    def open_window(language: str, width: int = 1280, height: int = 800) -> Page:
        options = webdriver.ChromeOptions()
        options.binary_location = BROWSER
        for flag in (
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-dev-shm-usage", f"--lang={language}",
            f"--accept-lang={language}", f"--window-size={width},{height}",
        ):  # fmt: skip
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        opened.append(driver)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        return Page(driver, server.url)

    yield open_window
    for driver in opened:
        driver.quit()


def test_an_uploaded_pdf_is_asked_about_and_its_quote_is_read_in_its_place(
    page, server, tmp_path: Path
) -> None:
    file = tmp_path / "水泵 AP-7（最终版）.pdf"
    file.write_bytes(pdf(FACTS))
    chinese = page("zh-CN")
    assert [tab.text for tab in chinese.all("button[role=tab]")] == ["问答", "文档", "搜索"]
    chinese.upload(file)
    chinese.find(".zn-upload.zn-done", file.name)
    assert "完成" in chinese.find(".zn-upload", file.name).text
    chinese.find("#zn-documents tr", file.name)

    chinese.tab(0)
    chinese.type(
        "#zn-question textarea", "How often must the filter of the Aurora pump be replaced?"
    )
    card = chinese.find(".zn-card")
    assert file.name in card.text
    assert "400 hours" in chinese.find(".zn-answer").text
    place = {
        key: card.get_attribute(f"data-{key}") for key in ("document", "version", "start", "end")
    }
    card.click()
    quote = chinese.find(".zn-panel mark").text
    text = http.get(
        f"{server.url}/documents/{place['document']}/text",
        params={"version": place["version"]},
    ).text
    assert quote == text[int(place["start"]) : int(place["end"])]
    assert "400 hours" in quote
    assert "第 1 页" in chinese.find(".zn-panel").text
    drawn = (
        "const i = document.querySelector('.zn-picture img'); return i.complete && i.naturalWidth"
    )
    assert chinese.until(drawn) == 893
    link = chinese.find(".zn-panel a.zn-link").get_attribute("href")
    assert http.get(str(link)).content == file.read_bytes()

    chinese.click(".zn-close")
    chinese.gone(".zn-panel")
    chinese.click(".zn-marker")
    assert chinese.find(".zn-panel mark").text == quote
    assert chinese.hosts() == {urlparse(server.url).netloc}


def test_the_same_file_again_is_said_to_be_there_and_an_empty_one_is_refused(
    page, tmp_path: Path
) -> None:
    english = page("en-US")
    file, empty = tmp_path / "twice.txt", tmp_path / "empty.txt"
    file.write_text(
        "The lighthouse of Skagen was built in 1858 and is 46 metres high.", encoding="utf-8"
    )
    empty.touch()
    english.upload(file, empty)
    english.find(".zn-upload.zn-done", "twice.txt")
    english.find(".zn-upload.zn-failed", "empty.txt")
    english.upload(file)
    assert "same content" in english.find(".zn-upload.zn-duplicate", "twice.txt").text


def test_a_hostile_document_stays_text(page, tmp_path: Path) -> None:
    file = tmp_path / "<img src=x onerror=window.hacked=4>.txt"
    file.write_text(HOSTILE, encoding="utf-8")
    english = page("en-US")
    english.upload(file)
    english.find(".zn-upload.zn-done", file.name)
    english.find("#zn-documents tr", file.name)
    english.tab(2)
    english.type("#zn-query textarea, #zn-query input", "zephyrine valve")
    assert "window.hacked = 1" in english.find(".zn-hit", "zephyrine").text
    english.click(".zn-hit-head", file.name)
    assert "{{value}} `quoted`" in english.find(".zn-panel mark").text
    assert not english.hacked()


def test_an_archive_is_shown_with_its_files_and_a_refused_url_says_why(
    page, tmp_path: Path
) -> None:
    file = tmp_path / "资料.zip"
    bad = {"logo.gif": b"GIF89a" + bytes(9)}
    file.write_bytes(
        zipped({"规定/出差.txt": "出差住宿标准为四百元。".encode(), **bad}, codec="gbk")
    )
    chinese = page("zh-CN")
    chinese.upload(file)
    chinese.find(".zn-upload.zn-done", "资料.zip")
    chinese.find("#zn-documents .zn-tag", "已读取 1 / 2 个文件")
    chinese.find("#zn-documents .zn-member", "资料.zip/规定/出差.txt")
    chinese.type("#zn-url input, #zn-url textarea", "http://10.0.0.1/内部.pdf")
    chinese.find(".zn-upload.zn-failed", "private address")


def test_a_long_upload_is_stopped_and_retried_from_the_list(page, tmp_path: Path) -> None:
    file = tmp_path / "endless.txt"
    lines = (f"Paragraph {n}: the numbat {n} sleeps in a log." * 6 for n in range(2000))
    file.write_text("\n\n".join(lines), encoding="utf-8")
    english = page("en-US")
    english.upload(file)
    row = f"//tr[contains(., '{file.name}')]"
    english.find("#zn-documents tr", file.name)
    for _ in range(2):
        english.click("#zn-documents button[data-event=stop]", "Stop")
        english.find("#zn-documents tr", "cancelled: retry the job, or delete the document")
        english.click("#zn-documents button[data-event=retry]", "Retry")
        english.find("#zn-documents button[data-event=stop]")
    english.driver.find_element("xpath", f"{row}//button[@data-event='delete']").click()
    english.click("#zn-documents .zn-confirm button", "Yes, delete")
    english.find("#zn-said", "Deleted")


def test_many_files_are_counted_while_they_are_read_and_those_that_failed_retried_by_one_click(
    page, server, tmp_path: Path
) -> None:
    name = f"many-{uuid.uuid4().hex[:8]}"
    files = [tmp_path / f"{n:02d}.txt" for n in range(40)]
    for n, file in enumerate(files):
        text = "\n\n".join(
            f"Paragraph {k} of file {n}: the numbat sleeps in a log." for k in range(9)
        )
        file.write_text(text, encoding="utf-8")
    bad = tmp_path / "bad.pdf"
    bad.write_bytes(b"%PDF-1.7 broken")
    english = page("en-US")
    english.tab(1)
    english.type("#zn-collection-name input, #zn-collection-name textarea", name)
    english.find(".zn-current", name)
    english.upload(*files, bad)
    said = english.until(
        "const line = document.querySelector('#zn-waiting .zn-batch-line');"
        "return line && line.textContent.includes('left') && line.textContent"
    )
    assert re.fullmatch(
        r"\d+ of \d+ files read · \d+\.\d files/(s|min) · about \d+ (s|min) left", str(said)
    )
    english.find("#zn-waiting .zn-batch-failed", "Failed files: 1")

    def statuses() -> list[str]:
        asked = {"collection": name, "limit": "50", "kind": "ingest"}
        told = http.get(f"{server.url}/jobs", params=asked).json()
        return sorted(one["status"] for one in told["jobs"])

    until(lambda: statuses() == ["done"] * 40 + ["failed"], 300)
    english.gone("#zn-waiting .zn-batch-line")
    english.click("#zn-waiting button[data-event=retry]", "Retry all")
    english.find("#zn-said", "Files queued again: 1.")
    english.find("#zn-waiting .zn-batch-failed", "Failed files: 1")


def test_schedules_are_added_and_removed_and_a_wrong_time_is_said(page, server) -> None:
    chinese = page("zh-CN")
    chinese.tab(1)
    chinese.find("#zn-schedules", "还没有定时任务")
    chinese.click("#zn-schedule-new button")
    zone = "return document.querySelector('#zn-schedule-zone input').value"
    assert chinese.until(zone) == chinese.driver.execute_script(
        "return Intl.DateTimeFormat().resolvedOptions().timeZone"
    )
    chinese.type("#zn-schedule-when input", "中午")
    chinese.find("#zn-said .zn-problem", "请求没有完成")
    chinese.click("#zn-schedule-kind input")
    chinese.click("ul[role=listbox] li, .options li", "清理过期文档")
    chinese.until(
        "return document.querySelector('#zn-schedule-folder input').placeholder.includes('365')"
    )
    chinese.driver.find_element("css selector", "#zn-schedule-folder input").send_keys("365")
    chinese.driver.find_element("css selector", "#zn-schedule-when input").clear()
    chinese.type("#zn-schedule-when input", "at 03:00 on mon,fri")
    chinese.find("#zn-said .zn-notice", "已添加定时任务“清理过期文档”")
    chinese.find(".zn-schedule", "超过 365 天")
    [made] = http.get(f"{server.url}/schedules").json()["schedules"]
    assert (made["kind"], made["when"], made["payload"]) == (
        "expire", "at 03:00 on mon,fri", {"days": 365},
    )  # fmt: skip
    chinese.click(".zn-schedule button[data-event=delete]", "移除")
    chinese.click("#zn-schedules .zn-confirm button", "取消")
    chinese.gone("#zn-schedules .zn-confirm")
    chinese.click(".zn-schedule button[data-event=delete]", "移除")
    chinese.click("#zn-schedules .zn-confirm .zn-danger", "移除")
    chinese.find("#zn-said", "已移除定时任务")
    chinese.gone(".zn-schedule")
    assert http.get(f"{server.url}/schedules").json() == {"schedules": []}


def test_a_document_is_deleted_only_after_a_yes_and_then_answers_nothing(
    page, tmp_path: Path
) -> None:
    file = tmp_path / "farewell.txt"
    file.write_text("The quokka archive of Rottnest holds 5120 photographs.", encoding="utf-8")
    english = page("en-US")
    english.upload(file)
    english.find(".zn-upload.zn-done", file.name)
    row = f"//tr[contains(., '{file.name}')]//button[@data-event='delete']"
    english.find("#zn-documents tr", file.name)
    english.driver.find_element("xpath", row).click()
    english.click("#zn-documents .zn-confirm button", "Cancel")
    english.gone("#zn-documents .zn-confirm")
    english.find("#zn-documents tr", file.name)
    english.driver.find_element("xpath", row).click()
    english.click("#zn-documents .zn-confirm button", "Yes, delete")
    english.find("#zn-said", "Deleted")
    assert file.name not in english.find("#zn-documents").text
    english.tab(2)
    english.type("#zn-query textarea, #zn-query input", "quokka archive Rottnest")
    english.find(".zn-hits, .zn-empty")
    assert file.name not in english.find("#zn-hits").text


def test_two_visitors_have_conversations_of_their_own(page) -> None:
    one, other = page("zh-CN"), page("en-US")
    one.type("#zn-question textarea", "第一位访客的问题")
    one.find(".zn-question", "第一位访客的问题")
    other.type("#zn-question textarea", "The question of the second visitor")
    other.find(".zn-question", "The question of the second visitor")
    one.find(".zn-answer:not(.zn-provisional), .zn-problem")
    other.find(".zn-answer:not(.zn-provisional), .zn-problem")
    assert len(one.all(".zn-question")) == len(other.all(".zn-question")) == 1
    one.click("#zn-new")
    one.find(".zn-welcome")
    assert len(other.all(".zn-question")) == 1


def test_nothing_is_wider_than_a_phone(page) -> None:
    phone = page("zh-CN", 390, 844)
    for tab in range(3):
        phone.tab(tab)
        phone.find(("#zn-question", "#zn-files", "#zn-query")[tab])
        assert phone.driver.execute_script("return document.scrollingElement.scrollWidth") <= 390
