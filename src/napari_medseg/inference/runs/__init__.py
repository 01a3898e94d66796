"""Runs as users ask for them: what they take, many of them at once, and one that somebody looks on."""
