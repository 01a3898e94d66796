"""Losses by name, their sums, and how those of several outputs are weighted."""
