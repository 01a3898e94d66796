"""Voxels that are classified by what the user's strokes have taught."""
