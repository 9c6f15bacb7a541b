"""The README's pictures, taken from a running server: `python -m bench.pictures http://127.0.0.1:8000`.

The server must hold the sample documents. Needs Debian's chromium, its driver and a Chinese font.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
WIDTH, HEIGHT = 1280, 800
PATIENCE_S = 60
SETTLED_S = 0.8
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


class Window:
    """One browser window on the page, in one language."""

    def __init__(self, url: str, language: str) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for flag in (*FLAGS, f"--lang={language}", f"--accept-lang={language}"):
            options.add_argument(flag)
        service = webdriver.ChromeService("/usr/bin/chromedriver")
        self.driver = webdriver.Chrome(options=options, service=service)
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 2, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(url)
        self.find(".zn-chip")

    def all(self, css: str) -> list[WebElement]:
        """The elements that match now."""
        return self.driver.find_elements("css selector", css)

    def find(self, css: str) -> WebElement:
        """The first element that matches, as soon as there is one."""
        wait = WebDriverWait(self.driver, PATIENCE_S, 0.1)
        wait.until(lambda _driver: self.all(css), f"no {css}")
        return self.all(css)[0]

    def tab(self, number: int) -> None:
        """Turns to a tab, counted from 0."""
        self.all("button[role=tab]")[number].click()

    def ask(self, question: str) -> None:
        """Asks and waits for the whole answer."""
        before = len(self.all(".zn-byline, .zn-refused"))
        self.find("#zn-question textarea").send_keys(question, Keys.ENTER)
        wait = WebDriverWait(self.driver, PATIENCE_S, 0.1)
        wait.until(lambda _driver: len(self.all(".zn-byline, .zn-refused")) > before, question)

    def take(self, path: Path) -> None:
        """The window as it looks when nothing moves any more."""
        time.sleep(SETTLED_S)
        self.driver.save_screenshot(str(path))


def ask(window: Window) -> None:
    """A conversation with a passage opened."""
    window.ask("How many characters must a password have at least?")
    window.ask("延长保修最多可以延长几次？")
    window.all(".zn-exchange:last-child .zn-card")[0].click()
    window.find(".zn-panel mark")


def documents(window: Window) -> None:
    """The list of documents."""
    window.tab(1)
    window.find("#zn-documents tr")


def search(window: Window) -> None:
    """Hits with their scores."""
    window.tab(2)
    window.find("#zn-query textarea, #zn-query input").send_keys(
        "how long must a password be", Keys.ENTER
    )
    window.find(".zn-hit")


PICTURES: dict[str, tuple[str, Callable[[Window], None]]] = {
    "ask": ("zh-CN", ask),
    "documents": ("zh-CN", documents),
    "search": ("en-US", search),
}


def main() -> None:
    """Takes them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--to", type=Path, default=FOLDER)
    chosen = parser.parse_args()
    chosen.to.mkdir(parents=True, exist_ok=True)
    for name, (language, act) in PICTURES.items():
        window = Window(chosen.url, language)
        try:
            act(window)
            window.take(chosen.to / f"{name}.png")
        finally:
            window.driver.quit()
        print(chosen.to / f"{name}.png")


if __name__ == "__main__":
    main()
