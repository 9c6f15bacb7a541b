"""Old formats go through LibreOffice, which gets its own folder and its time, and is ended with its children."""

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import docx
import pytest

from indexer.parse.legacy import LegacyParser, installed
from indexer.parse.office import DocxParser
from indexer.parse.parser import build_parser
from pipeline.errors import DamagedDocument, TooLarge, UnsupportedMedia
from tests.fixtures.ole_file import ole_file

DOC = ole_file({"WordDocument": b"old"})


def program(folder: Path, body: str) -> str:
    """An executable that stands for LibreOffice; `made` is the folder it must write to."""
    path = folder / "soffice"
    path.write_text(
        f"#!{sys.executable}\nimport json, os, subprocess, sys, time\nfrom pathlib import Path\n"
        f"made = Path(sys.argv[sys.argv.index('--outdir') + 1])\nseen = Path({str(folder)!r})\n{body}\n"
    )
    path.chmod(0o755)
    return str(path)


def test_without_libreoffice_the_error_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        UnsupportedMedia, match=r"LibreOffice is not installed .* Save it as \.docx"
    ):
        build_parser().parse(DOC, "a.doc")
    slides = ole_file({"PowerPoint Document": b"old"})
    with pytest.raises(UnsupportedMedia, match=r"LibreOffice .* Save it as \.pptx"):
        build_parser().parse(slides, "a.ppt")


def test_what_the_program_makes_is_read(tmp_path: Path) -> None:
    document = docx.Document()
    document.add_paragraph("旧文件里的话。")
    buffer = io.BytesIO()
    document.save(buffer)
    (tmp_path / "new.docx").write_bytes(buffer.getvalue())
    body = (
        "made.mkdir()\n(made / 'document.docx').write_bytes((seen / 'new.docx').read_bytes())\n"
        "(seen / 'told').write_text(json.dumps((sys.argv[-1], os.environ['HOME'], os.getcwd(), sorted(os.environ))))"
    )
    path = program(tmp_path, body)
    parsed = LegacyParser(DocxParser(), find=lambda: path).parse(DOC, "../../旧 $(x).doc")
    assert [element.text for element in parsed.elements] == ["旧文件里的话。"]
    source, home, cwd, variables = json.loads((tmp_path / "told").read_text())
    assert source == f"{home}/document.doc"
    assert cwd == home
    assert not Path(home).exists()
    assert set(variables) <= {"HOME", "TMPDIR", "PATH", "LANG", "SAL_USE_VCLPLUGIN", "LC_CTYPE"}


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    body = (
        "child = subprocess.Popen(['sleep', '600'])\n"
        "(seen / 'pid').write_text(str(child.pid))\ntime.sleep(600)"
    )
    path = program(tmp_path, body)
    with pytest.raises(TooLarge, match="2 seconds"):
        LegacyParser(DocxParser(), find=lambda: path, seconds=2).parse(DOC, "a.doc")
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not running(pid):
            break
        time.sleep(0.05)
    assert not running(pid)


def running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_file_that_it_cannot_open_is_damaged(tmp_path: Path) -> None:
    path = program(tmp_path, "sys.exit(1)")
    with pytest.raises(DamagedDocument, match="LibreOffice can't open it"):
        LegacyParser(DocxParser(), find=lambda: path).parse(DOC, "a.doc")


@pytest.mark.slow
@pytest.mark.skipif(installed() is None, reason="LibreOffice is not installed")
@pytest.mark.parametrize("ending", ["doc", "odt"])
def test_libreoffice_itself_converts(tmp_path: Path, ending: str) -> None:
    source = tmp_path / "a.txt"
    source.write_text("保修期为二十四个月。\n\nThe river flows east.\n", "utf-8")
    profile = (tmp_path / "profile").as_uri()
    command = [
        installed(),
        f"-env:UserInstallation={profile}",
        "--headless",
        "--convert-to",
        ending,
    ]
    command += ["--infilter=Text (encoded):UTF8", "--outdir", str(tmp_path), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    parsed = build_parser().parse((tmp_path / f"a.{ending}").read_bytes(), f"a.{ending}")
    assert [element.text for element in parsed.elements] == [
        "保修期为二十四个月。",
        "The river flows east.",
    ]
