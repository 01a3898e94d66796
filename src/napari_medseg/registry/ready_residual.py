"""Residual networks that MONAI has ready."""

from __future__ import annotations

from napari_medseg.registry.spec import NetworkSpec, Parameter

_DROPOUT = Parameter(0.0, "probability of dropping a feature in training", 0, 0.95)
_NORM = Parameter("instance", "normalisation of each convolution", choices=("instance", "batch"))
_ANY_NORM = Parameter("group", "normalisation after each convolution", choices=("group", "instance", "batch"))
_BACKBONES = (
    *(f"efficientnet-b{k}" for k in range(9)),
    *(f"resnet{k}" for k in (10, 18, 34, 50, 101, 152, 200)),
)

NETWORKS: tuple[NetworkSpec, ...] = (
    NetworkSpec(
        name="segresnet",
        target="napari_medseg.networks.ready_residual:SegResNet",
        family="residual and dense",
        year=2018,
        summary="MONAI's SegResNet: residual encoder with group norm, additive skips",
        when="For brain tumours and other MR with little data; group norm suits a batch of one.",
        reference="Myronenko, BrainLes 2018, doi:10.1007/978-3-030-11726-9_28",
        parameters={
            "init_filters": Parameter(16, "features of the finest level, a multiple of 8", 8, 512),
            "blocks_down": Parameter((1, 2, 2, 4), "residual blocks per encoder level", 1, 16, shortest=2, longest=8),
            "blocks_up": Parameter(
                (1, 1, 1), "residual blocks per decoder level, the coarsest first", 1, 16, longest=7
            ),
            "dropout": _DROPOUT,
        },
        paper={"in_channels": 4, "out_channels": 3, "init_filters": 32, "dropout": 0.2},
        parameters_paper=18_798_627,
        counting="without the published autoencoder branch, used in training only; no count is published",
    ),
    NetworkSpec(
        name="segresnetds",
        target="napari_medseg.networks.ready_residual:SegResNetDS",
        family="residual and dense",
        year=2023,
        summary="MONAI's SegResNetDS: SegResNet with up-convolutions and deep supervision",
        when="A strong residual alternative to nnunet for organs and tumours, when there is memory for it.",
        reference="Myronenko et al., KiTS 2023, doi:10.48550/arXiv.2310.04110",
        parameters={
            "init_filters": Parameter(16, "features of the finest level", 1, 512),
            "blocks_down": Parameter(
                (1, 2, 2, 4, 4), "residual blocks per encoder level", 1, 16, shortest=2, longest=8
            ),
            "norm": _NORM,
            "deep_supervision": Parameter(True, "logits of every decoder level in training"),
        },
        paper={"in_channels": 1, "out_channels": 3, "init_filters": 32},
        parameters_paper=87_164_684,
        counting="no count is published",
        deep_supervision=True,
        features_per_level="",
    ),
    NetworkSpec(
        name="highresnet",
        target="napari_medseg.networks.ready_residual:HighResNet",
        family="residual and dense",
        year=2017,
        summary="MONAI's HighResNet: residual blocks at full size, dilated by 1, 2 and 4",
        when="For fine parcellations with many labels; few weights, but every feature is kept at full size.",
        reference="Li et al., IPMI 2017, doi:10.1007/978-3-319-59050-9_28",
        parameters={
            "features": Parameter(
                (16, 32, 64, 80), "features of the three dilations and of the last layer", 1, 512, shortest=4, longest=4
            ),
            "norm": _NORM,
            "dropout": _DROPOUT,
        },
        paper={"in_channels": 1, "out_channels": 160, "norm": "batch", "dropout": 0.5},
        parameters_paper=821_584,
        counting="published as 0.81 million",
    ),
    NetworkSpec(
        name="mednext",
        target="napari_medseg.networks.ready_residual:MedNeXt",
        family="residual and dense",
        year=2023,
        summary="MONAI's MedNeXt: ConvNeXt blocks with large kernels in a residual U-Net",
        when="For the last per cent on organs and tumours in large data; slower per step than a U-Net.",
        reference="Roy et al., MICCAI 2023, doi:10.1007/978-3-031-43901-8_39",
        parameters={
            "init_filters": Parameter(32, "features of the finest level", 1, 256),
            "expansion": Parameter(
                (2, 2, 2, 2, 2), "widening in the blocks of each level, the bottleneck's last", 1, 16, shortest=2
            ),
            "blocks": Parameter((2, 2, 2, 2, 2), "blocks per level, the bottleneck's last", 1, 32, shortest=2),
            "kernel_size": Parameter(3, "odd kernel of the depthwise convolutions", 1, 9),
            "deep_supervision": Parameter(True, "logits of every level in training"),
        },
        paper={
            "in_channels": 1,
            "out_channels": 14,
            "expansion": (3, 4, 8, 8, 8),
            "blocks": (3, 4, 8, 8, 8),
            "kernel_size": 5,
        },
        parameters_paper=62_954_278,
        counting="published as 63.0 million, the largest of four sizes; 61,740,646 with 3^n kernels (61.8)",
        deep_supervision=True,
    ),
    NetworkSpec(
        name="ahnet",
        target="napari_medseg.networks.ready_residual:AHNet",
        family="residual and dense",
        year=2018,
        summary="MONAI's AHNet: an encoder of in-plane kernels, a dense anisotropic decoder, pooled pyramids",
        when="For volumes of thick slices, whose planes are much finer than the step between them.",
        reference="Liu et al., MICCAI 2018, doi:10.1007/978-3-030-00934-2_94",
        parameters={
            "layers": Parameter((3, 4, 6, 3), "bottlenecks per stage", 1, 64, shortest=4, longest=4),
            "psp_blocks": Parameter(2, "poolings of the pyramid, by 8, 16, 32 and 64 in the planes", 0, 4),
            "upsample": Parameter("transpose", "how the size is doubled", choices=("transpose", "linear", "nearest")),
            "norm": _ANY_NORM,
        },
        paper={"in_channels": 1, "out_channels": 3, "psp_blocks": 4, "upsample": "linear", "norm": "batch"},
        parameters_paper=27_087_804,
        counting="no count is published",
    ),
    NetworkSpec(
        name="flexibleunet",
        target="napari_medseg.networks.ready_residual:FlexibleUNet",
        family="residual and dense",
        year=2019,
        summary="MONAI's FlexibleUNet: a U-Net decoder on an EfficientNet or ResNet, untrained",
        when="To compare encoders under one decoder, and for weights of MONAI that were trained so.",
        reference="Tan and Le, ICML 2019, doi:10.48550/arXiv.1905.11946",
        parameters={
            "backbone": Parameter("efficientnet-b0", "the encoder", choices=_BACKBONES),
            "decoder_channels": Parameter(
                (256, 128, 64, 32, 16), "features of the decoder, the coarsest first", 2, 2048, shortest=5, longest=5
            ),
            "norm": _ANY_NORM,
            "dropout": _DROPOUT,
        },
    ),
)
