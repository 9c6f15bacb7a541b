"""What reading one file may cost."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Megabytes are 10^6 bytes; times are seconds.

    `seconds` (on the clock) and `cpu_seconds` hold for a file without pages, or for each step of about a second's
    worth of pages; `document_seconds` for the whole. `memory_mb` is resident memory, all programs that a file needs
    together. `written_mb` the largest file that may be written
    on the way, `result_mb` what may come of one step. `nesting` are the levels inside one file
    (indexer/parse/nesting.py). A child process reads `files` files.
    """

    memory_mb: int = 1_000
    cpu_seconds: int = 120
    seconds: int = 300
    document_seconds: int = 4 * 3600
    pages: int = 5_000
    unpacked_mb: int = 500
    nesting: int = 200
    open_files: int = 256
    written_mb: int = 600
    result_mb: int = 256
    files: int = 200


DEFAULT_LIMITS = Limits()
