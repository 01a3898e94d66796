"""One module per architecture: wiring of blocks, tensors in, logits out; listed in `napari_medseg.registry`."""
