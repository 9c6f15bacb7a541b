"""How far uploads and jobs are, as HTML. Pure; everything foreign is escaped here."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from app.job_schemas import JobOut
from app.schemas import UploadedOut
from ui.batch import Batch
from ui.words import Words

OVER = frozenset({"done", "failed", "cancelled", "dead"})
ENDED_BADLY = frozenset({"failed", "cancelled", "dead"})


@dataclass(frozen=True, slots=True)
class Upload:
    """One file that this page sent, and its job as last seen (None before the first look)."""

    sent: UploadedOut
    job: JobOut | None = None

    @property
    def open(self) -> bool:
        """Whether its job still has to end."""
        if self.sent.job_id is None or self.sent.error is not None:
            return False
        return self.job is None or self.job.status not in OVER


def uploads_html(uploads: Sequence[Upload], words: Words) -> str:
    """The progress of this page's uploads, newest first; empty when there are none."""
    if not uploads:
        return ""
    rows = "".join(_upload(upload, words) for upload in uploads)
    return f'<p class="zn-label">{words.uploads}</p><div class="zn-uploads" aria-live="polite">{rows}</div>'


def _upload(upload: Upload, words: Words) -> str:
    state, line, part = _progress(upload, words)
    return (
        f'<div class="zn-upload zn-{state}" data-state="{state}">'
        f'<bdi class="zn-file">{escape(upload.sent.filename)}</bdi>'
        f'<span class="zn-upload-line">{escape(line)}</span>{bar(part)}</div>'
    )


def _progress(upload: Upload, words: Words) -> tuple[str, str, float]:
    sent, job = upload.sent, upload.job
    if sent.error is not None:
        return "failed", words.upload_refused.format(error=sent.error), 1.0
    if sent.duplicate and (job is None or job.status == "done"):
        return "duplicate", words.upload_duplicate, 1.0
    if job is not None and job.status == "queued" and job.stage == "publish":
        return "running", stage(job, words), share(job)  # it is published with the next ones
    if job is None or job.status == "queued":
        return "queued", words.upload_waiting, 0.0
    if job.status == "done":
        return "done", words.upload_done, 1.0
    if job.status in OVER:
        return "failed", words.upload_failed.format(error=job.error or job.status), 1.0
    return "running", stage(job, words), share(job)


def stage(job: JobOut, words: Words) -> str:
    """What a job does now, with its count where it has one."""
    name = words.stages.get(job.stage, job.stage)
    if job.total <= 0:
        return name
    return f"{name} {words.upload_counts.format(done=job.done, total=job.total)}"


def share(job: JobOut) -> float:
    """How much of its stage a job has done, 0 to 1."""
    return min(1.0, max(0.0, job.done / job.total)) if job.total > 0 else 0.0


def bar(part: float) -> str:
    """A bar that is filled for a part from 0 to 1."""
    percent = round(100 * part)
    return (
        f'<span class="zn-bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><span style="width:{percent}%"></span></span>'
    )


def batch_html(batch: Batch | None, words: Words) -> str:
    """How far the files of a collection are while several wait, and a button where some failed; or nothing."""
    if batch is None:
        return ""
    line = progress = ""
    if batch.open and batch.total > 1:
        parts = [words.members_read.format(read=batch.read, total=batch.total)]
        parts += pace(batch.per_second, batch.seconds_left, words)
        line = f'<span class="zn-batch-line">{" · ".join(parts)}</span>'
        progress = bar(batch.ended / batch.total)
    failed = (
        f'<span class="zn-batch-failed">{words.files_failed.format(count=batch.failed)}'
        f' <button type="button" class="zn-quiet" data-event="retry">{words.retry_all}</button></span>'
        if batch.failed
        else ""
    )
    if not line and not failed:
        return ""
    return f'<div class="zn-batch" aria-live="polite">{line}{failed}{progress}</div>'


def pace(per_second: float | None, seconds_left: float | None, words: Words) -> list[str]:
    """Speed and time left, as far as they are known."""
    told = []
    if per_second is not None:
        slow = per_second < 0.1
        said = words.per_minute if slow else words.per_second
        told.append(said.format(count=f"{per_second * 60 if slow else per_second:.1f}"))
    if seconds_left is not None:
        if seconds_left < 60:
            told.append(words.seconds_left.format(count=max(1, round(seconds_left))))
        elif seconds_left < 5400:
            told.append(words.minutes_left.format(count=round(seconds_left / 60)))
        else:
            told.append(words.hours_left.format(count=round(seconds_left / 3600)))
    return told
