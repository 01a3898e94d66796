"""Networks that MONAI has."""

from __future__ import annotations

from dataclasses import replace

from napari_medseg.registry.parameters import DROPOUT, NORM_GROUP, NORM_INSTANCE_OR_BATCH, SUPERVISED
from napari_medseg.registry.spec import NetworkSpec, Parameter

_UNET_NORM = replace(
    NORM_INSTANCE_OR_BATCH,
    choices=("instance", "instance_plain", "batch", "group4", "group8", "group16", "group32"),
)
_PLAIN_NORM = replace(_UNET_NORM, default="instance_plain")
_BACKBONES = (
    *(f"efficientnet-b{k}" for k in range(9)),
    *(f"resnet{k}" for k in (10, 18, 34, 50, 101, 152, 200)),
)

NETWORKS: tuple[NetworkSpec, ...] = (
    NetworkSpec(
        name="basicunet",
        target="napari_medseg.architectures.monai.unets:BasicUNet",
        family="U-Net",
        year=2019,
        summary="MONAI's BasicUNet: two convolutions per level, max-pooling, five levels",
        when="A plain U-Net of MONAI, for comparisons and for weights that were trained with it.",
        reference="Falk et al., Nature Methods 2019, doi:10.1038/s41592-018-0261-2",
        parameters={
            "features": Parameter(
                (32, 32, 64, 128, 256, 32), "features of five levels and of the output", 1, 2048, shortest=6, longest=6
            ),
            "norm": _UNET_NORM,
            "upsample": Parameter("deconv", "how the size is doubled", choices=("deconv", "nontrainable")),
            "dropout": DROPOUT,
        },
    ),
    NetworkSpec(
        name="basicunetplusplus",
        target="napari_medseg.architectures.monai.unets:BasicUNetPlusPlus",
        family="U-Net",
        year=2018,
        summary="MONAI's BasicUNetPlusPlus: nested skips on BasicUNet's convolutions, every head at full size",
        when="As unetpp, where weights of MONAI are at hand; a third more memory than a plain U-Net.",
        reference="Zhou et al., DLMIA 2018, doi:10.1007/978-3-030-00889-5_1",
        parameters={
            "features": Parameter(
                (16, 32, 64, 128, 256, 16), "features of five levels and of the output", 2, 2048, shortest=6, longest=6
            ),
            "norm": _UNET_NORM,
            "upsample": Parameter("deconv", "how the size is doubled", choices=("deconv", "nontrainable")),
            "dropout": DROPOUT,
            "deep_supervision": Parameter(True, "logits of nodes X(0, 4) to X(0, 1) in training"),
        },
        deep_supervision=True,
        supervision="equal",
    ),
    NetworkSpec(
        name="monai_unet",
        target="napari_medseg.architectures.monai.unets:StridedUNet",
        family="U-Net",
        year=2018,
        summary="MONAI's UNet: strided residual units, PReLU",
        when="For weights of MONAI's tutorials and bundles; small and fast.",
        reference="Kerfoot et al., STACOM 2018, doi:10.1007/978-3-030-12029-0_40",
        parameters={
            "channels": Parameter((16, 32, 64, 128, 256), "features per level", 1, 2048, shortest=2, longest=8),
            "strides": Parameter(
                (2, 2, 2, 2), "steps between the levels, one per level or per level and axis", 1, 4, longest=21
            ),
            "num_res_units": Parameter(2, "convolutions in a residual unit; 0: plain convolutions", 0, 8),
            "kernel_size": Parameter(3, "kernel of the convolutions", 1, 7),
            "up_kernel_size": Parameter(3, "kernel of the up-convolutions", 1, 7),
            "norm": _UNET_NORM,
            "activation": Parameter("PRELU", "what follows the normalisation", choices=("PRELU", "RELU", "LEAKYRELU")),
            "dropout": DROPOUT,
            "bias": Parameter(True, "whether convolutions have biases"),
        },
    ),
    NetworkSpec(
        name="dynunet",
        target="napari_medseg.architectures.monai.unets:DynUNet",
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
            "norm": _UNET_NORM,
            "res_block": Parameter(False, "residual blocks"),
            "trans_bias": Parameter(False, "whether up-convolutions have biases"),
            "dropout": DROPOUT,
        },
    ),
    NetworkSpec(
        name="monai_attention_unet",
        target="napari_medseg.architectures.monai.unets:AttentionUNet",
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
            "dropout": DROPOUT,
        },
        paper={"in_channels": 1, "out_channels": 2},
        parameters_paper=94_482_930,
        counting="in 2D 31,739,250",
    ),
    NetworkSpec(
        name="segresnet",
        target="napari_medseg.architectures.monai.residual:SegResNet",
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
            "dropout": DROPOUT,
            "upsample": Parameter("nontrainable", "how the size is doubled", choices=("nontrainable", "deconv")),
        },
        paper={"in_channels": 4, "out_channels": 3, "init_filters": 32, "dropout": 0.2},
        parameters_paper=18_798_627,
        counting="without the published autoencoder branch, used in training only; no count is published",
    ),
    NetworkSpec(
        name="segresnetds",
        target="napari_medseg.architectures.monai.residual:SegResNetDS",
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
            "norm": NORM_INSTANCE_OR_BATCH,
            "deep_supervision": SUPERVISED,
        },
        paper={"in_channels": 1, "out_channels": 3, "init_filters": 32},
        parameters_paper=87_164_684,
        counting="no count is published",
        deep_supervision=True,
        features_per_level="",
    ),
    NetworkSpec(
        name="highresnet",
        target="napari_medseg.architectures.monai.residual:HighResNet",
        family="residual and dense",
        year=2017,
        summary="MONAI's HighResNet: residual blocks at full size, dilated by 1, 2 and 4",
        when="For fine parcellations with many labels; few weights, but every feature is kept at full size.",
        reference="Li et al., IPMI 2017, doi:10.1007/978-3-319-59050-9_28",
        parameters={
            "features": Parameter(
                (16, 32, 64, 80), "features of the three dilations and of the last layer", 1, 512, shortest=4, longest=4
            ),
            "norm": NORM_INSTANCE_OR_BATCH,
            "dropout": DROPOUT,
        },
        paper={"in_channels": 1, "out_channels": 160, "norm": "batch", "dropout": 0.5},
        parameters_paper=821_584,
        counting="published as 0.81 million",
    ),
    NetworkSpec(
        name="mednext",
        target="napari_medseg.architectures.monai.residual:MedNeXt",
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
        depthwise=True,
        deep_supervision=True,
    ),
    NetworkSpec(
        name="ahnet",
        target="napari_medseg.architectures.monai.residual:AHNet",
        family="residual and dense",
        year=2018,
        summary="MONAI's AHNet: an encoder of in-plane kernels, a dense anisotropic decoder, pooled pyramids",
        when="For volumes of thick slices, whose planes are much finer than the step between them.",
        reference="Liu et al., MICCAI 2018, doi:10.1007/978-3-030-00934-2_94",
        parameters={
            "layers": Parameter((3, 4, 6, 3), "bottlenecks per stage", 1, 64, shortest=4, longest=4),
            "psp_blocks": Parameter(2, "poolings of the pyramid, by 8, 16, 32 and 64 in the planes", 0, 4),
            "upsample": Parameter("transpose", "how the size is doubled", choices=("transpose", "linear", "nearest")),
            "norm": NORM_GROUP,
        },
        paper={"in_channels": 1, "out_channels": 3, "psp_blocks": 4, "upsample": "linear", "norm": "batch"},
        parameters_paper=27_087_804,
        counting="no count is published",
    ),
    NetworkSpec(
        name="flexibleunet",
        target="napari_medseg.architectures.monai.residual:FlexibleUNet",
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
            "norm": NORM_GROUP,
            "dropout": DROPOUT,
            "upsample_widths": Parameter(
                "projected",
                "whether features are projected to the next level's width before they are doubled in size, or kept",
                choices=("projected", "kept"),
            ),
        },
    ),
    NetworkSpec(
        name="dints",
        target="napari_medseg.architectures.monai.dints:DiNTS",
        family="residual and dense",
        year=2021,
        summary="DiNTS: a network whose paths and operations were found by a search",
        when="For weights of MONAI's searched networks; the arguments hold what the search found.",
        reference="He et al., CVPR 2021, doi:10.48550/arXiv.2103.15954",
        parameters={
            "blocks": Parameter(2, "blocks of cells, one after the other", 1, 24),
            "depths": Parameter(3, "resolutions, each half of the one before", 2, 6),
            "channel_mul": Parameter(1.0, "features, in multiples of 32 at the finest depth", 0.03125, 8),
            "downsample": Parameter(True, "whether the image is halved before the first block"),
            "paths": Parameter((1,) * 14, "per block and connection: whether it is there", 0, 1, longest=24 * 16),
            "operations": Parameter((1,) * 14, "per block and connection: its operation", 0, 4, longest=24 * 16),
            "nodes": Parameter((1,) * 9, "per block, the input first, and depth: used", 0, 1, longest=25 * 6),
        },
    ),
    NetworkSpec(
        name="unetr",
        target="napari_medseg.architectures.monai.transformers:UNETR",
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
            "dropout": DROPOUT,
            "norm": _PLAIN_NORM,
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
        target="napari_medseg.architectures.monai.transformers:SwinUNETR",
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
            "dropout": DROPOUT,
            "dropout_path": Parameter(0.0, "largest probability of skipping a layer in training", 0, 0.95),
            "norm": _PLAIN_NORM,
            "residual_merging": Parameter(False, "a residual block before each stage (SwinUNETR-V2)"),
        },
        paper={"in_channels": 4, "out_channels": 3, "feature_size": 48},
        parameters_paper=62_191_941,
        counting="published as 61.98 million; for one channel and 14 classes 62,187,296",
    ),
)
