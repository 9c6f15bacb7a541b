"""`/metrics` in the format of Prometheus."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from indexer.jobs.kinds import Queue
from indexer.jobs.vitals import Vitals
from pipeline.types import JobKind, JobStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
IDLE_S = 30.0
"""So long a job may wait while none runs before the queue counts as one without a consumer."""


def unattended(vitals: Vitals) -> bool:
    """Whether jobs wait and no worker takes them."""
    nothing_runs = vitals.running == 0 and vitals.oldest_waiting_s > IDLE_S
    return nothing_runs or bool(vitals.alone(IDLE_S))


def exposition(vitals: Vitals, *, messages: int | None, restarts: Mapping[str, int]) -> bytes:
    """The text; `messages` is None while the queue does not answer, `restarts` are by the child's name."""
    registry = CollectorRegistry()
    registry.register(_Families(vitals, messages, restarts))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, vitals: Vitals, messages: int | None, restarts: Mapping[str, int]) -> None:
        self._vitals = vitals
        self._messages = messages
        self._restarts = restarts

    def collect(self) -> Iterable[GaugeMetricFamily]:
        jobs = GaugeMetricFamily(
            "zhinao_jobs", "Jobs by kind and status", labels=["kind", "status"]
        )
        kinds = {kind for kind, _ in self._vitals.jobs} | {kind.value for kind in JobKind}
        for kind in sorted(kinds):
            for status in JobStatus:
                count = self._vitals.jobs.get((kind, status.value), 0)
                jobs.add_metric([kind, status.value], count)
        yield jobs
        alone = GaugeMetricFamily(
            "zhinao_queue_without_consumer",
            "1 while jobs of the queue wait and none of them runs",
            labels=["queue"],
        )
        for queue in Queue:
            alone.add_metric([queue.value], int(queue in self._vitals.alone(IDLE_S)))
        yield alone
        restarts = GaugeMetricFamily(
            "zhinao_child_restarts",
            "How often this server started a dead child again",
            labels=["child"],
        )
        for child, count in sorted(self._restarts.items()):
            restarts.add_metric([child], count)
        yield restarts
        single = {
            "zhinao_job_oldest_waiting_seconds": (
                "How long the job that waits longest could have run",
                self._vitals.oldest_waiting_s,
            ),
            "zhinao_job_longest_silence_seconds": (
                "How long the quietest worker of a running job was not heard of",
                self._vitals.longest_silence_s,
            ),
            "zhinao_job_longest_still_seconds": (
                "How long the job that stands still longest, in a worker's hands, was neither begun nor got on",
                self._vitals.longest_still_s,
            ),
            "zhinao_queue_unattended": (
                "1 while jobs wait and no worker takes them",
                int(unattended(self._vitals)),
            ),
            "zhinao_queue_up": ("1 while Redis answers", int(self._messages is not None)),
            "zhinao_queue_messages": ("Messages that no worker took", self._messages),
            "zhinao_child_restarts_total": (
                "How often this server started dead children again, all of them together",
                sum(self._restarts.values()),
            ),
        }
        for name, (says, value) in single.items():
            if value is not None:
                yield GaugeMetricFamily(name, says, value=value)
