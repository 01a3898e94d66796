"""U-Nets that MONAI has ready."""

from __future__ import annotations

from napari_medseg.registry.spec import NetworkSpec, Parameter

_DROPOUT = Parameter(0.0, "probability of dropping a feature in training", 0, 0.95)
_NORM = Parameter("instance", "normalisation after each convolution", choices=("instance", "instance_plain", "batch"))

NETWORKS: tuple[NetworkSpec, ...] = (
    NetworkSpec(
        name="basicunet",
        target="napari_medseg.networks.ready:BasicUNet",
        family="U-Net",
        year=2019,
        summary="MONAI's BasicUNet: two convolutions per level, max-pooling, five levels",
        when="A plain U-Net of MONAI, for comparisons and for weights that were trained with it.",
        reference="Falk et al., Nature Methods 2019, doi:10.1038/s41592-018-0261-2",
        parameters={
            "features": Parameter(
                (32, 32, 64, 128, 256, 32), "features of five levels and of the output", 1, 2048, shortest=6, longest=6
            ),
            "norm": _NORM,
            "upsample": Parameter("deconv", "how the size is doubled", choices=("deconv", "nontrainable")),
            "dropout": _DROPOUT,
        },
    ),
    NetworkSpec(
        name="basicunetplusplus",
        target="napari_medseg.networks.ready:BasicUNetPlusPlus",
        family="U-Net",
        year=2018,
        summary="MONAI's BasicUNetPlusPlus: nested skips on BasicUNet's convolutions, every head at full size",
        when="As unetpp, where weights of MONAI are at hand; a third more memory than a plain U-Net.",
        reference="Zhou et al., DLMIA 2018, doi:10.1007/978-3-030-00889-5_1",
        parameters={
            "features": Parameter(
                (16, 32, 64, 128, 256, 16), "features of five levels and of the output", 2, 2048, shortest=6, longest=6
            ),
            "norm": _NORM,
            "upsample": Parameter("deconv", "how the size is doubled", choices=("deconv", "nontrainable")),
            "dropout": _DROPOUT,
            "deep_supervision": Parameter(True, "logits of nodes X(0, 4) to X(0, 1) in training"),
        },
        deep_supervision=True,
        supervision="equal",
    ),
    NetworkSpec(
        name="monai_unet",
        target="napari_medseg.networks.ready:StridedUNet",
        family="U-Net",
        year=2018,
        summary="MONAI's UNet: strided residual units, PReLU",
        when="For weights of MONAI's tutorials and bundles; small and fast.",
        reference="Kerfoot et al., STACOM 2018, doi:10.1007/978-3-030-12029-0_40",
        parameters={
            "channels": Parameter((16, 32, 64, 128, 256), "features per level", 1, 2048, shortest=2, longest=8),
            "strides": Parameter((2, 2, 2, 2), "steps between the levels", 1, 4, longest=7),
            "num_res_units": Parameter(2, "convolutions in a residual unit; 0: plain convolutions", 0, 8),
            "kernel_size": Parameter(3, "kernel of the convolutions", 1, 7),
            "up_kernel_size": Parameter(3, "kernel of the up-convolutions", 1, 7),
            "norm": _NORM,
            "activation": Parameter("PRELU", "what follows the normalisation", choices=("PRELU", "RELU", "LEAKYRELU")),
            "dropout": _DROPOUT,
            "bias": Parameter(True, "whether convolutions have biases"),
        },
    ),
    NetworkSpec(
        name="dynunet",
        target="napari_medseg.networks.ready:DynUNet",
        family="U-Net",
        year=2021,
        summary="MONAI's DynUNet, after nnU-Net: kernels and strides per level and axis",
        when="For weights of MONAI's DynUNet; unet3d and nnunet are the same idea with deep supervision.",
        reference="Isensee et al., Nature Methods 2021, doi:10.1038/s41592-020-01008-z",
        parameters={
            "filters": Parameter(
                (32, 64, 128, 256, 320), "features per level, the finest first", 1, 2048, shortest=3, longest=10
            ),
            "kernel_sizes": Parameter(
                (3, 3, 3, 3, 3), "odd kernel sizes, one per level or per level and axis", 1, 7, shortest=3, longest=30
            ),
            "strides": Parameter(
                (1, 2, 2, 2, 2),
                "steps into each level, one per level or per level and axis",
                1,
                8,
                shortest=3,
                longest=30,
            ),
            "norm": _NORM,
            "res_block": Parameter(False, "residual blocks"),
            "trans_bias": Parameter(False, "whether up-convolutions have biases"),
            "dropout": _DROPOUT,
        },
    ),
    NetworkSpec(
        name="monai_attention_unet",
        target="napari_medseg.networks.ready:AttentionUNet",
        family="attention",
        year=2018,
        summary="MONAI's Attention U-Net: additive gates on the skips",
        when="For small organs in a large field of view, when weights of MONAI are at hand.",
        reference="Oktay et al., MIDL 2018, doi:10.48550/arXiv.1804.03999",
        parameters={
            "channels": Parameter((64, 128, 256, 512, 1024), "features per level", 2, 2048, shortest=2, longest=8),
            "strides": Parameter((2, 2, 2, 2), "steps between the levels", 1, 4, longest=8),
            "kernel_size": Parameter(3, "kernel of the convolutions", 1, 7),
            "up_kernel_size": Parameter(3, "kernel of the up-convolutions", 1, 7),
            "dropout": _DROPOUT,
        },
        paper={"in_channels": 1, "out_channels": 2},
        parameters_paper=94_482_930,
        counting="in 2D 31,739,250",
    ),
)
