"""Which uploads go first. Values alone: the command line needs them, and starts without a database."""

MANY = 20
"""Files that come together are `bulk` when they are more than these."""
INTERACTIVE, BULK = 0, 1
"""Priorities of jobs: somebody waits for the one, nobody for each of the others."""
