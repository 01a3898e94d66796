"""Blocks that several architectures share. They know channels only."""
