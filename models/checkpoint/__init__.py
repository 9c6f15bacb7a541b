"""Checkpoints of the 360Zhinao family: fetched, converted to plain layouts, and compared."""
