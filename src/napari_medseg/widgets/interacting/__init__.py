"""The Interact panel: masks from clicks, strokes and painted slices, with the layers that napari has for them."""
