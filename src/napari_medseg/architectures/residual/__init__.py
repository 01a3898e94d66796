"""Residual, dense and multi-stream networks."""
