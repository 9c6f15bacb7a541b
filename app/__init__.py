"""HTTP, command line, settings and wiring."""
