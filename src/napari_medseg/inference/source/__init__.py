"""Models of other programs: images are prepared, windows run and outputs made as the source program does it."""
