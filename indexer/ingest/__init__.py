"""The write path, from bytes to a staged file."""
