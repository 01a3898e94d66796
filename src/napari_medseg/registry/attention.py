"""Networks that weigh where to look."""

from __future__ import annotations

from napari_medseg.registry.spec import NetworkSpec, Parameter

_NORM = Parameter("instance", "normalisation", choices=("instance", "group", "batch"))
_SUPERVISED = Parameter(True, "logits of every decoder level in training")

NETWORKS: tuple[NetworkSpec, ...] = (
    NetworkSpec(
        name="nonlocal_unet",
        target="napari_medseg.networks.nonlocal_unet:NonLocalUNet",
        family="attention",
        year=2020,
        summary="Non-local U-Net: three levels of residual blocks; the bottom and the first up-sampling see everything",
        when="For structures that only their surroundings tell apart, such as brain tissues; it is small.",
        reference="Wang et al., AAAI 2020, doi:10.1609/aaai.v34i04.6100",
        parameters={
            "channels": Parameter(
                (32, 64, 128), "features per level, the finest first", 1, 1024, shortest=2, longest=6
            ),
            "norm": _NORM,
            "dropout": Parameter(
                0.0, "probability of dropping an attention weight, and a feature before a head", 0, 0.95
            ),
            "keys_per_axis": Parameter(
                12, "voxels per axis to which the image is averaged before it is attended to", 1, 16
            ),
            "deep_supervision": _SUPERVISED,
        },
        paper={
            "norm": "batch",
            "dropout": 0.5,
            "keys_per_axis": 16,
            "deep_supervision": False,
            "in_channels": 2,
            "out_channels": 4,
        },
        parameters_paper=1_760_452,
        deep_supervision=True,
        features_per_level="channels",
    ),
    NetworkSpec(
        name="attention_unet",
        target="napari_medseg.networks.attention_unet:AttentionUNet",
        family="attention",
        year=2018,
        summary="Attention U-Net: gates on the skips, driven by the level below",
        when="For small organs in a large field of view; its gates show where it looked.",
        reference="Oktay et al., MIDL 2018, doi:10.48550/arXiv.1804.03999",
        parameters={
            "channels": Parameter(
                (32, 64, 128, 256, 512), "features per level, the finest first", 1, 2048, shortest=2, longest=8
            ),
            "norm": _NORM,
            "deep_supervision": _SUPERVISED,
        },
        paper={
            "channels": (64, 128, 256, 512, 1024),
            "norm": "batch",
            "deep_supervision": False,
            "in_channels": 3,
            "out_channels": 1,
            "spatial_dims": 2,
        },
        parameters_paper=34_878_573,
        deep_supervision=True,
        features_per_level="channels",
    ),
)
