"""What may be searched: the one commit point, and what a search sees."""
