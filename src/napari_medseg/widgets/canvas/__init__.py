"""What the panels put on napari's canvas, and the one translator between layers and nouns."""
