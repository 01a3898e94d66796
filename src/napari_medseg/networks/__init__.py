"""One module per architecture: wiring of MONAI's blocks, tensors in, logits out; listed in `napari_medseg.registry`."""
