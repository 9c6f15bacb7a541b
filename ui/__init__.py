"""The browser interface. It talks to the API over HTTP and to nothing else."""
