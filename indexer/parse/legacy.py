"""Old and open Office formats by way of LibreOffice, where it is installed."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from indexer.parse.media import DOC, DOCX, ODP, ODT, PPT, PPTX, sniff
from pipeline.errors import DamagedDocument, TooLarge, UnsupportedMedia
from pipeline.ports import Parser
from pipeline.types import Parsed

SECONDS = 120
MAX_CONVERTED = 500_000_000
"""Bytes of the converted file, and of any file that the program writes."""
_TARGETS: Mapping[str, str] = MappingProxyType({DOC: DOCX, ODT: DOCX, PPT: PPTX, ODP: PPTX})
_ENDINGS: Mapping[str, str] = MappingProxyType(
    {DOC: ".doc", ODT: ".odt", PPT: ".ppt", ODP: ".odp", DOCX: ".docx", PPTX: ".pptx"}
)


def installed() -> str | None:
    """The path of LibreOffice's program."""
    return shutil.which("soffice") or shutil.which("libreoffice")


class LegacyParser:
    """Reads .doc, .ppt, .odt and .odp as what LibreOffice makes of them; `inner` reads that.

    Each file gets a program, a profile and a folder of its own, and `seconds`; then the program and
    all that it started are killed. Raises UnsupportedMedia where there is no LibreOffice, TooLarge
    where the time is up, and DamagedDocument where nothing came of it.
    """

    def __init__(
        self,
        inner: Parser,
        *,
        find: Callable[[], str | None] = installed,
        seconds: float = SECONDS,
    ) -> None:
        self._inner = inner
        self._find = find
        self._seconds = seconds

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset(_TARGETS)

    def parse(self, data: bytes, name: str) -> Parsed:
        kind = sniff(data, name)
        target = _ENDINGS[_TARGETS[kind]]
        program = self._find()
        if program is None:
            raise UnsupportedMedia(
                f"“{name}” is a {_ENDINGS[kind]} file, which is read by way of LibreOffice, and "
                f"LibreOffice is not installed on the server. Save it as {target} and upload that, "
                "or have LibreOffice installed."
            )
        with tempfile.TemporaryDirectory(prefix="zhinao-office-") as folder:
            converted = self._converted(program, Path(folder), data, name, kind)
        return self._inner.parse(converted, f"{name}{target}")

    def _converted(self, program: str, folder: Path, data: bytes, name: str, kind: str) -> bytes:
        source = folder / f"document{_ENDINGS[kind]}"  # never the name that somebody gave it
        target = _ENDINGS[_TARGETS[kind]]
        source.write_bytes(data)
        made = folder / "made"
        command = [
            program, f"-env:UserInstallation={(folder / 'profile').as_uri()}", "--headless", "--norestore",
            "--nolockcheck", "--nodefault", "--nologo", "--convert-to", target[1:], "--outdir", str(made), str(source),
        ]  # fmt: skip
        if not _ran(_timed(command, self._seconds), folder, self._seconds):
            raise TooLarge(
                f"“{name}” took more than {self._seconds:g} seconds to convert. Save it as {target} "
                "and upload that."
            )
        result = made / f"document{target}"
        if not result.is_file():
            raise DamagedDocument(
                f"“{name}” is damaged or protected: LibreOffice can't open it. Save it as {target} "
                "and upload that."
            )
        if result.stat().st_size > MAX_CONVERTED:
            raise TooLarge(f"“{name}” becomes too large when converted. Split it and try again.")
        return result.read_bytes()


def _timed(command: list[str], seconds: float) -> list[str]:
    """The command under `timeout` where there is one: it ends also when nobody is left who would kill it."""
    timer = shutil.which("timeout")
    return [timer, "--signal=KILL", f"{seconds + 10:g}", *command] if timer else command


def _ran(command: list[str], folder: Path, seconds: float) -> bool:
    """Whether the command ended in time; either way nothing of its group goes on."""
    environment = {
        "HOME": str(folder), "TMPDIR": str(folder), "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8", "SAL_USE_VCLPLUGIN": "svp",
    }  # fmt: skip
    process = subprocess.Popen(  # noqa: S603 - a fixed command on a file of our own naming
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,  # and still of our session: whoever ends that ends it, too
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return True
