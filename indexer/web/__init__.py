"""Documents from URLs, through one guarded client."""
