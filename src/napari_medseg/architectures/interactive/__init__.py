"""Networks that a user guides, and one on graphs."""
