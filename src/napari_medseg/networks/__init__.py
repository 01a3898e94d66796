"""One module per architecture: wiring of MONAI's blocks, tensors in, logits out. `napari_medseg.registry` lists them."""
