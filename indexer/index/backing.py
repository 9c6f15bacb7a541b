"""A backup as a job: by the clock, or asked for over the API. Where to, the settings say, never a request."""

from pathlib import Path

from indexer.folders import Folders
from indexer.index.backup import back_up
from indexer.index.vault import Vault
from indexer.jobs.claims import Claim
from indexer.jobs.jobs import Jobs
from indexer.jobs.work import Result, Say
from indexer.sql.database import Database
from pipeline.errors import InvalidInput
from pipeline.types import JobId, JobKind


def submit_backup(jobs: Jobs, folder: Path | None) -> JobId:
    """A job that makes a backup; the one that waits or runs already, if any.

    Raises InvalidInput where no folder is set.
    """
    _set(folder)
    return jobs.submit(JobKind.BACKUP, payload={}, about="backup", detached=True, alone=True)


class Backing:
    """Implements Handler. Its result is what `zhinao backup --json` prints of a new backup."""

    def __init__(
        self, database: Database, folders: Folders, *, folder: Path | None, keep: int | None
    ) -> None:
        self._database = database
        self._folders = folders
        self._folder = folder
        self._keep = keep

    def run(self, claim: Claim, say: Say) -> Result:  # noqa: ARG002  # of everything
        """Raises InvalidInput where no folder is set, and what `back_up` raises."""
        vault = Vault.make(_set(self._folder))
        say("backup")
        made = back_up(
            self._database,
            self._folders,
            vault,
            say=lambda done, total: say("backup", done, total),
        )
        pruned: list[str] = []
        if self._keep is not None:
            say("prune")
            with vault.writing():
                pruned, _ = vault.prune(self._keep)
        return {**made.told(), "pruned": pruned}

    def interrupt(self) -> None:
        """The next word ends the job, and nothing of it stays."""


def _set(folder: Path | None) -> Path:
    if folder is None:
        raise InvalidInput("no folder of backups is set: set ZHINAO_BACKUP__FOLDER and start again")
    return folder
