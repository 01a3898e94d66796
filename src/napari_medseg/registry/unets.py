"""The U-Net and its descendants."""

from __future__ import annotations

from dataclasses import replace

from napari_medseg.registry.spec import NetworkSpec, Parameter

_CHANNELS = Parameter((32, 64, 128, 256, 512), "features per level, the finest first", 1, 2048, shortest=2, longest=8)
_NARROW = replace(_CHANNELS, default=(16, 32, 64, 128, 256))
_NORM = Parameter("instance", "normalisation after each convolution", choices=("instance", "group", "batch"))
_SUPERVISED = Parameter(True, "logits of every decoder level in training")

NETWORKS: tuple[NetworkSpec, ...] = (
    NetworkSpec(
        name="unet3d",
        target="napari_medseg.networks.unet3d:UNet3D",
        family="U-Net",
        year=2016,
        summary="U-Net: strided, instance norm, deep supervision; as published: pooling, batch norm",
        when="A sound first choice for volumes: trains fast, and is exact where structures are small.",
        reference="Çiçek et al., MICCAI 2016, doi:10.1007/978-3-319-46723-8_49",
        parameters={
            "channels": Parameter(
                (32, 64, 128, 256, 320), "features per level, the finest first", 1, 2048, shortest=2, longest=8
            ),
            "norm": Parameter("instance", "normalisation after each convolution", choices=("instance", "batch")),
            "activation": Parameter("leakyrelu", "what follows the normalisation", choices=("leakyrelu", "relu")),
            "down": Parameter("stride", "how the size is halved", choices=("stride", "maxpool")),
            "bias": Parameter(False, "whether the 3^n convolutions have biases, which the normalisation undoes"),
            "narrow_first": Parameter(False, "half the features in the first convolution of each encoder level"),
            "wide_up": Parameter(False, "up-convolutions keep the features of the coarser level"),
            "deep_supervision": Parameter(True, "logits of every decoder level in training"),
        },
        paper={
            "channels": (64, 128, 256, 512),
            "norm": "batch",
            "activation": "relu",
            "down": "maxpool",
            "bias": True,
            "narrow_first": True,
            "wide_up": True,
            "deep_supervision": False,
            "in_channels": 3,
            "out_channels": 3,
        },
        parameters_paper=19_074_627,
        counting="published as 19,069,955: convolutions alone, without the 4,672 of the batch norms",
        deep_supervision=True,
        features_per_level="channels",
    ),
    NetworkSpec(
        name="nnunet",
        target="napari_medseg.networks.nnunet:NnUNet",
        family="U-Net",
        year=2021,
        summary="The U-Net that nnU-Net plans: kernels and strides per level and axis, plain or residual encoder",
        when="For models converted from nnU-Net, and where kernels must differ per axis.",
        reference="Isensee et al., Nature Methods 2021, doi:10.1038/s41592-020-01008-z",
        parameters={
            "features": Parameter(
                (32, 64, 128, 256, 320), "features per level, the finest first", 1, 2048, shortest=2, longest=10
            ),
            "kernel_sizes": Parameter(
                (3, 3, 3, 3, 3), "odd kernel sizes, one per level or per level and axis", 1, 7, shortest=2, longest=30
            ),
            "strides": Parameter(
                (1, 2, 2, 2, 2),
                "steps into each level, one per level or per level and axis",
                1,
                8,
                shortest=2,
                longest=30,
            ),
            "blocks": Parameter((2, 2, 2, 2, 2), "convolutions (or residual blocks) per level", 1, 16, shortest=2),
            "decoder_blocks": Parameter((2, 2, 2, 2), "convolutions per decoder level, the coarsest first", 1, 16),
            "residual": Parameter(False, "residual encoder"),
            "bias": Parameter(True, "whether convolutions have biases"),
            "deep_supervision": Parameter(True, "logits of every decoder level in training"),
        },
        deep_supervision=True,
    ),
    NetworkSpec(
        name="unet",
        target="napari_medseg.networks.unet:UNet",
        family="U-Net",
        year=2015,
        summary="The first U-Net: two convolutions per level, pooling, up-convolutions; here padded, and normalised",
        when="The baseline that others are compared with, above all on slices.",
        reference="Ronneberger et al., MICCAI 2015, doi:10.1007/978-3-319-24574-4_28",
        parameters={
            "channels": _CHANNELS,
            "norm": replace(_NORM, choices=("instance", "group", "batch", "none")),
            "deep_supervision": _SUPERVISED,
        },
        paper={
            "channels": (64, 128, 256, 512, 1024),
            "norm": "none",
            "deep_supervision": False,
            "in_channels": 1,
            "out_channels": 2,
            "spatial_dims": 2,
        },
        parameters_paper=31_030_658,
        deep_supervision=True,
        features_per_level="channels",
    ),
    NetworkSpec(
        name="r2unet",
        target="napari_medseg.networks.r2unet:R2UNet",
        family="U-Net",
        year=2018,
        summary="R2U-Net: residual stages of convolutions that see their own output again",
        when="For thin structures such as vessels, when its three-fold computing time is no matter.",
        reference="Alom et al., 2018, doi:10.48550/arXiv.1802.06955",
        parameters={
            "channels": _NARROW,
            "steps": Parameter(2, "how often each convolution sees its own output", 1, 8),
            "deep_supervision": _SUPERVISED,
        },
        paper={
            "channels": (64, 128, 256, 512, 1024),
            "deep_supervision": False,
            "in_channels": 3,
            "out_channels": 1,
            "spatial_dims": 2,
        },
        parameters_paper=39_091_393,
        counting="its norms are instance norms: as many parameters as the batch norms that others share between steps",
        deep_supervision=True,
        features_per_level="channels",
    ),
    NetworkSpec(
        name="multiresunet",
        target="napari_medseg.networks.multiresunet:MultiResUNet",
        family="U-Net",
        year=2020,
        summary="MultiResUNet: several fields of view per stage, residual convolutions along the skips",
        when="For structures of many sizes in one image, with fewer weights than a U-Net of its width.",
        reference="Ibtehaz and Rahman, Neural Networks 2020, doi:10.1016/j.neunet.2019.08.025",
        parameters={"channels": _NARROW, "norm": _NORM, "deep_supervision": _SUPERVISED},
        paper={
            "channels": (32, 64, 128, 256, 512),
            "norm": "batch",
            "deep_supervision": False,
            "in_channels": 3,
            "out_channels": 2,
            "spatial_dims": 2,
        },
        parameters_paper=7_251_372,
        counting="7,251,376 with the batch norm that a public version has on its logits",
        deep_supervision=True,
        features_per_level="channels",
    ),
)
