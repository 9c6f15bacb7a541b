"""Which GPU holds which segment: a plan over bytes, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

SCRATCH_BYTES = 512 * 2**20
"""Left free on every device for what FAISS needs while it searches."""
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Layout:
    """The devices of each segment, in their order. Replicated: every device has every segment, so that
    searches are spread; otherwise each segment is on one device.
    """

    replicated: bool
    devices: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class DoesNotFit:
    """Why, in a sentence that says what to do."""

    sentence: str


def plan(sizes: Sequence[int], free: Sequence[int]) -> Layout | DoesNotFit:
    """Where segments of these `sizes` go, given the bytes `free` on each device.

    All on every device where they fit; else the largest first, each on the device with the most room.
    """
    room = [max(0, own - SCRATCH_BYTES) for own in free]
    if room and sum(sizes) <= min(room):
        return Layout(replicated=True, devices=(tuple(range(len(room))),) * len(sizes))
    chosen: dict[int, int] = {}
    for segment in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        device = max(range(len(room)), key=lambda i: room[i], default=None)
        if device is None or room[device] < sizes[segment]:
            return DoesNotFit(_sentence(sizes, room or [max(0, own) for own in free]))
        chosen[segment] = device
        room[device] -= sizes[segment]
    return Layout(replicated=False, devices=tuple((chosen[i],) for i in range(len(sizes))))


def _sentence(sizes: Sequence[int], left: Sequence[int]) -> str:
    return (
        f"the vectors take {sum(sizes) / GIB:.2f} GiB on GPUs, the largest segment {max(sizes) / GIB:.2f} "
        f"GiB, and do not fit into the {len(left)} there are: add a GPU, or set "
        "ZHINAO_INDEX__DEVICE=cpu, or ZHINAO_INDEX__FALLBACK=true to search the rest on the CPU"
    )
