"""Schemes whose networks take more than an image: slices in memory, clicks, supervoxels."""
