"""What an inspection of the stores finds, and what mends it."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as the catalog says. `collection` is its name, "" for what belongs to none.

    `mend` puts it right and says what it did; None where only a person can.
    """

    part: str
    collection: str
    says: str
    mend: Callable[[], str] | None = field(default=None, compare=False, repr=False)
