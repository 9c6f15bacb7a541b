"""The write path and the stores: parsing, chunks, catalog, segments, vectors, words."""
