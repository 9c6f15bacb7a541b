"""Values, ports, errors and the query path. No I/O, no framework."""
