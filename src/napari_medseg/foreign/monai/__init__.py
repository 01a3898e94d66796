"""MONAI bundles: read in, and written."""
