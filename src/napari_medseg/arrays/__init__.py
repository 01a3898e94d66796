"""Boxes, walks in blocks and lazy views over arrays of any kind: pure index code."""
