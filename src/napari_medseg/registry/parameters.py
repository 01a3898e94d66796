"""Parameters that many networks share."""

from __future__ import annotations

from dataclasses import replace

from napari_medseg.registry.spec import Parameter

NORM_GROUP = Parameter("group", "normalisation after each convolution", choices=("group", "instance", "batch"))
NORM_INSTANCE = Parameter("instance", "normalisation after each convolution", choices=("instance", "group", "batch"))
NORM_INSTANCE_OR_BATCH = replace(NORM_INSTANCE, choices=("instance", "batch"))
NORM_OR_NONE = replace(NORM_GROUP, choices=(*NORM_GROUP.choices, "none"))
SUPERVISED = Parameter(True, "logits of every decoder level in training")
DROP_MAPS = Parameter(0.0, "probability of dropping a feature map", 0, 0.95)
DROPOUT = Parameter(0.0, "probability of dropping a feature in training", 0, 0.95)
STEM_WIDTH = Parameter(32, "features of the encoder's stem, a multiple of 4", 4, 256)
VGG_FEATURES = Parameter((32, 64, 128, 256, 256), "features per level", 1, 2048, shortest=5, longest=5)
POSITIONS_GRID = Parameter(
    (6,), "tokens per axis for which positions are learned (one number, or one per axis); interpolated", 1, 256
)
