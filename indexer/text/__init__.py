"""The stored text of a version, and its chunks."""
