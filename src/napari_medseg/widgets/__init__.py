"""The dock widgets: thin over the functions of the core. Qt, napari and magicgui live here and nowhere else."""
