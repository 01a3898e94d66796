"""What schemes make up: images for label maps, label maps, and codes of shapes."""
