"""Files that hold vectors and words; no SQL."""
