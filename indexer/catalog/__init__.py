"""What exists: collections, documents, versions."""
