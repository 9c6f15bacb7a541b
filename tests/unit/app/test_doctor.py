"""What `zhinao doctor` says of the processes that files are read in."""

from pathlib import Path

import pytest

from app.doctor import examine
from app.settings import load
from indexer.parse import cage


def test_doctor_says_how_the_parsers_are_kept_from_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZHINAO_PARSER__MEMORY_MB", "1234")
    checks = {check.part: check for check in examine(load(data=tmp_path), "http://127.0.0.1:1")}
    says = checks["parser"].says
    assert checks["parser"].ok
    assert says.startswith((cage.NAMESPACE, cage.GUARD))
    assert "1,234 MB" in says
    assert "LibreOffice" in says
