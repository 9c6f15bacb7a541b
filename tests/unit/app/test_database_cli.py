from pathlib import Path

import pytest
from databases import Cluster
from library import Library
from typer.testing import CliRunner

from app.cli import app
from app.doctor import examine
from app.serve import own
from app.settings import Settings
from pipeline.errors import Conflict, InvalidInput


def copy(data: Path, to: str) -> str:
    done = CliRunner().invoke(app, ["database", "copy", "--data", str(data), "--to", to])
    if done.exception is not None:
        raise done.exception
    return " ".join(done.output.split())


def test_a_copy_says_what_it_copied_and_never_the_password(
    tmp_path: Path, postgresql: Cluster
) -> None:
    library = Library.open(tmp_path)
    library.add("a.txt", "The walrus sleeps on the ice.")
    library.close()
    target = postgresql.create()
    with own(tmp_path), pytest.raises(InvalidInput, match="another server uses the data folder"):
        copy(tmp_path, target)
    said = copy(tmp_path, target)
    assert "1 of document" in said
    assert "postgresql://zhinao@/test" in said
    assert "s3cret" not in said
    with pytest.raises(Conflict, match="empty"):
        copy(tmp_path, target)
    settings = Settings(data=tmp_path, database_url=target)
    [check] = [
        check for check in examine(settings, "http://127.0.0.1:9") if check.part == "database"
    ]
    assert check.ok
    assert check.says.startswith("PostgreSQL ")
    assert "zhinao.db holds is not used" in check.says
    assert "s3cret" not in check.says
    postgresql.drop(target)


def test_doctor_names_the_database_and_makes_none(tmp_path: Path) -> None:
    def says(settings: Settings) -> tuple[bool, str]:
        checks = {check.part: check for check in examine(settings, "http://127.0.0.1:9")}
        return checks["database"].ok, checks["database"].says

    assert says(Settings(data=tmp_path)) == (True, "SQLite, is made at the first start")
    assert list(tmp_path.iterdir()) == []
    Library.open(tmp_path).close()
    assert says(Settings(data=tmp_path)) == (True, f"SQLite, {tmp_path / 'zhinao.db'}")
    gone = Settings(data=tmp_path, database_url="postgresql://rag:s3cret@127.0.0.1:9/docs")
    ok, told = says(gone)
    assert not ok
    assert "postgresql://rag@127.0.0.1:9/docs does not answer" in told
    assert "s3cret" not in told
