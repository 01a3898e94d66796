"""OME-Zarr on the disk, read as needed, never trusted. `format` reads and writes; the other modules are its parts."""
