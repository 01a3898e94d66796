"""Transformers that MONAI has ready."""

from __future__ import annotations

from napari_medseg.registry.spec import NetworkSpec, Parameter

_DROPOUT = Parameter(0.0, "probability of dropping a feature in training", 0, 0.95)

NETWORKS: tuple[NetworkSpec, ...] = (
    NetworkSpec(
        name="unetr",
        target="napari_medseg.networks.ready_transformers:UNETR",
        family="transformer",
        year=2022,
        summary="MONAI's UNETR: a vision transformer as the encoder of a U-Net, for any size",
        when="With much data or weights trained before; a U-Net learns faster from few volumes.",
        reference="Hatamizadeh et al., WACV 2022, doi:10.1109/WACV51458.2022.00181",
        parameters={
            "positions": Parameter(6, "learnt positions along each axis, of 16 voxels each", 1, 32),
            "feature_size": Parameter(16, "features of the finest level", 1, 256),
            "hidden_size": Parameter(384, "features of a token, a multiple of num_heads", 1, 4096),
            "mlp_dim": Parameter(1536, "features inside the transformer's perceptrons", 1, 16384),
            "num_heads": Parameter(6, "heads of attention", 1, 64),
            "dropout": _DROPOUT,
        },
        paper={
            "in_channels": 1,
            "out_channels": 14,
            "hidden_size": 768,
            "mlp_dim": 3072,
            "num_heads": 12,
        },
        parameters_paper=92_784_046,
        counting="published as 92.58 million",
    ),
    NetworkSpec(
        name="swinunetr",
        target="napari_medseg.networks.ready_transformers:SwinUNETR",
        family="transformer",
        year=2021,
        summary="MONAI's SwinUNETR: shifted-window transformers as the encoder of a U-Net",
        when="With much data or weights trained before, where context over half the volume matters.",
        reference="Hatamizadeh et al., BrainLes 2021, doi:10.1007/978-3-031-08999-2_22",
        parameters={
            "feature_size": Parameter(24, "features of the finest level, a multiple of 12", 12, 384),
            "depths": Parameter((2, 2, 2, 2), "transformer layers per stage", 1, 32, shortest=4, longest=4),
            "num_heads": Parameter((3, 6, 12, 24), "heads of attention per stage", 1, 96, shortest=4, longest=4),
            "window_size": Parameter(7, "tokens along each axis of a window", 1, 16),
            "dropout": _DROPOUT,
            "dropout_path": Parameter(0.0, "largest probability of skipping a layer in training", 0, 0.95),
        },
        paper={"in_channels": 4, "out_channels": 3, "feature_size": 48},
        parameters_paper=62_191_941,
        counting="published as 61.98 million; for one channel and 14 classes 62,187,296",
    ),
)
