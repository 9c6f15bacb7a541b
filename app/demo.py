"""`make demo`: a server with the samples, one Chinese and one English question, their cited answers."""

import sys
import tempfile
from pathlib import Path

import httpx
from rich.console import Console

from app.job_schemas import JobsResponse
from app.running import running_server
from app.schemas import AskResponse
from app.terminal import print_answer
from pipeline.errors import RagError

_QUESTIONS = (
    "延长保修最多可以延长几次？",
    "What is the limit for a hotel night in Western Europe?",
)
_WAIT_S = 300.0


def main() -> int:
    """Exit code 0 when both questions are answered with citations."""
    out = Console(soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="zhinao-demo-") as folder:
        out.print("starting a server with the sample documents …")
        try:
            with (
                running_server(Path(folder), options=("--role", "api")) as server,
                httpx.Client(base_url=server.url, timeout=60, trust_env=False) as http,
            ):
                _await_jobs(http)
                answered = [_ask(http, question, out) for question in _QUESTIONS]
                return 0 if all(answered) else 1
        except RagError as error:
            out.print(f"[red]error:[/] {error}")
            return 1


def _await_jobs(http: httpx.Client) -> None:
    import time

    end = time.monotonic() + _WAIT_S
    while time.monotonic() < end:
        body = http.get("/jobs").json()
        jobs = JobsResponse.model_validate(body).jobs
        if jobs and all(job.status == "done" for job in jobs):
            return
        if broken := [job for job in jobs if job.status in ("failed", "dead")]:
            raise RagError(f"{broken[0].filename} was not read: {broken[0].error}")
        time.sleep(0.5)
    raise RagError(f"the samples were not ready after {_WAIT_S:.0f} s: see the messages above")


def _ask(http: httpx.Client, question: str, out: Console) -> bool:
    out.print(f"\n[bold blue]{question}[/]")
    body = http.post("/ask", json={"question": question}).json()
    answer = AskResponse.model_validate(body)
    print_answer(answer)
    return bool(answer.citations) and not answer.refused


if __name__ == "__main__":
    sys.exit(main())
