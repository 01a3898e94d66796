"""Parameters that many networks share."""

from __future__ import annotations

from napari_medseg.registry.spec import Parameter

NORM_GROUP = Parameter("group", "normalisation after each convolution", choices=("group", "instance", "batch"))
NORM_INSTANCE = Parameter("instance", "normalisation after each convolution", choices=("instance", "group", "batch"))
SUPERVISED = Parameter(True, "logits of every decoder level in training")
DROP_MAPS = Parameter(0.0, "probability of dropping a feature map", 0, 0.95)
DROPOUT = Parameter(0.0, "probability of dropping a feature in training", 0, 0.95)
