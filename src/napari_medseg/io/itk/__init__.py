"""NRRD and MetaImage through ITK. `format` reads and writes; the other modules are its parts."""
