"""Networks that find objects one by one: anchors, regions of features, and Mask R-CNN."""
