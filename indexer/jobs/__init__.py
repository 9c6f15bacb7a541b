"""Background work: job rows, leases, what they wait for."""
