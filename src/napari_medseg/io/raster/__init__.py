"""2D images: PNG, JPEG, BMP and TIFF."""
