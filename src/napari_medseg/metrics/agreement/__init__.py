"""Several raters of one image, and whether probabilities mean what they say."""
