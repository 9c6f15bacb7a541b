"""The documents that can be checked are checked."""

import re
from pathlib import Path

from app.main import API_PREFIXES, routed
from app.settings import PREFIX, Settings
from bench.openapi import PATH, described

ROOT = Path(__file__).parents[3]


def test_the_committed_description_of_the_api_is_current() -> None:
    assert PATH.read_text(encoding="utf-8") == described(), "run python -m bench.openapi"


def test_every_route_lies_under_a_prefix_of_the_api() -> None:
    paths = routed().openapi()["paths"]
    assert all(any(path.startswith(prefix) for prefix in API_PREFIXES) for path in paths)


def test_every_setting_that_the_documents_name_exists() -> None:
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | {
        "ZHINAO_API_URL",
        "ZHINAO_URL",
    }
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        named = re.findall(r"ZHINAO_[A-Z_]+", path.read_text(encoding="utf-8"))
        wrong = {name for name in named if name.split("__")[0].rstrip("_") not in known}
        assert not wrong, (path.name, wrong)


def test_every_link_between_the_documents_leads_somewhere() -> None:
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        links = re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8"))
        assert all((path.parent / link).exists() for link in links), (path.name, links)


def test_every_call_of_the_api_stands_in_its_document() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for path, calls in routed().openapi()["paths"].items():
        last = "/" + path.rstrip("/").split("/")[-1]
        for method in calls:
            assert method.upper() in text
            assert last.split("{")[0] in text, (method, path)
