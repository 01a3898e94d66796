"""The Explain panel, and the row in which a voxel is picked."""
