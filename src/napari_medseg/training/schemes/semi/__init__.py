"""Schemes that learn from a few labelled images and many without labels."""
