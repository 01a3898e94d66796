"""The U-Net and its descendants."""

from __future__ import annotations

from napari_medseg.registry.spec import NetworkSpec, Parameter

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
)
