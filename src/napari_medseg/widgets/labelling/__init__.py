"""The Labels table and what it does to a Labels layer."""
