"""What sets one kind of job apart from another: its queue, its attempts, its turn. Values and arithmetic only."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from indexer.catalog.precedence import INTERACTIVE
from pipeline.types import JobKind

UPKEEP = 2
"""The priority of what nobody waits for: it lets uploads go first, bulk too."""
LONG = 3
"""That of what may take days: it lets all else of its queue go first."""

_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 600.0
_JITTER = 0.2


class Queue(StrEnum):
    """Which processes run a job; each queue has its own, so that a long one keeps no upload waiting."""

    INGEST = "ingest"
    INDEX = "index"
    TRAIN = "train"


@dataclass(frozen=True, slots=True)
class Rule:
    """`attempts` counts the first one, too; after the last a job is dead. `losses` are attempts whose worker died: a
    job that kills its workers is dead sooner than one that waits for a disk or a server to come back.
    """

    queue: Queue
    attempts: int
    losses: int
    priority: int
    gives_way: bool = False
    """What is done of it is kept, so that it may be handed back for a job that goes first."""


RULES: Mapping[JobKind, Rule] = {
    JobKind.INGEST: Rule(Queue.INGEST, 12, 5, INTERACTIVE, gives_way=True),
    JobKind.DELETE: Rule(Queue.INGEST, 12, 5, INTERACTIVE),
    JobKind.WATCH: Rule(Queue.INGEST, 3, 3, UPKEEP),
    JobKind.EXPIRE: Rule(Queue.INGEST, 3, 3, UPKEEP),
    JobKind.MERGE: Rule(Queue.INDEX, 3, 3, UPKEEP),
    JobKind.REINDEX: Rule(Queue.INDEX, 12, 5, LONG, gives_way=True),
    JobKind.BACKUP: Rule(Queue.INDEX, 8, 3, UPKEEP),
    JobKind.EVALUATE: Rule(Queue.TRAIN, 3, 2, UPKEEP),
    JobKind.SFT: Rule(Queue.TRAIN, 8, 3, UPKEEP),
}
"""Twelve attempts are about 50 minutes. What the clock or an upload begins again anyway has three."""


def queue_of(kind: JobKind) -> Queue:
    """The queue whose workers run jobs of this kind."""
    return RULES[kind].queue


def kinds_of(queue: Queue) -> frozenset[JobKind]:
    """The kinds that a queue's workers run."""
    return frozenset(kind for kind, rule in RULES.items() if rule.queue is queue)


def pause_s(attempts: int, dice: float) -> float:
    """Seconds until the next attempt after `attempts` of them: 5, 10, 20, ... at most 600, a fifth more or less.

    `dice` is in [0, 1). What failed together is not tried again together.

    >>> pause_s(1, 0.5), pause_s(3, 0.5), pause_s(3, 0.0), pause_s(60, 0.5)
    (5.0, 20.0, 16.0, 600.0)
    """
    # 2 ** 1023 is the largest power of two that a float holds.
    plain = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 60))
    return plain * (1 - _JITTER + 2 * _JITTER * dice)
