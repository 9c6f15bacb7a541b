"""Files to elements."""
