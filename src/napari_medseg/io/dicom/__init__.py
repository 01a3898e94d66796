"""DICOM series and DICOM-SEG. `format` reads and writes; the other modules are its parts."""
