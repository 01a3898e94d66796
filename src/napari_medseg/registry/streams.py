"""Networks that keep several streams side by side: of resolutions, or of texture and shape."""

from __future__ import annotations

from napari_medseg.registry.spec import NetworkSpec, Parameter

_NORM = Parameter("group", "normalisation after each convolution", choices=("group", "instance", "batch"))

NETWORKS: tuple[NetworkSpec, ...] = (
    NetworkSpec(
        name="hrnet",
        target="napari_medseg.networks.hrnet:HRNet",
        family="residual and dense",
        year=2021,
        summary="HRNetV2: four resolutions side by side that exchange after every module",
        when="For scattered structures in a wide view: a fine resolution (a quarter of the size) is never given up.",
        reference="Wang et al., TPAMI 2021, doi:10.1109/TPAMI.2020.2983686",
        parameters={
            "width": Parameter(18, "features of the finest branch; each further branch has twice as many", 1, 256),
            "stem": Parameter(64, "features of the stem; a quarter of those of the first stage", 1, 256),
            "blocks": Parameter(4, "residual blocks per branch and module", 1, 16),
            "modules": Parameter(
                (1, 4, 3), "modules of the stages with two, three and four branches", 1, 16, shortest=3, longest=3
            ),
            "norm": _NORM,
        },
        paper={"width": 48, "norm": "batch", "in_channels": 3, "out_channels": 19, "spatial_dims": 2},
        parameters_paper=65_859_379,
        counting="HRNetV2-W48 with the 19 classes of Cityscapes",
    ),
    NetworkSpec(
        name="saunet",
        target="napari_medseg.networks.saunet:SAUNet",
        family="attention",
        year=2020,
        summary="SAUNet: a DenseNet for texture, a gated stream for shape, a decoder with dual attention",
        when="Where one wants to see what a network looks at: places, channels and edges each have their map.",
        reference="Sun et al., MIDL 2020, doi:10.48550/arXiv.2001.07645",
        parameters={
            "features": Parameter(32, "features of DenseNet's stem", 1, 256),
            "growth": Parameter(16, "features that each dense layer adds", 1, 128),
            "blocks": Parameter((6, 12, 24, 16), "dense layers per texture stage", 1, 64, shortest=4, longest=4),
            "shape": Parameter((16, 16, 8, 8), "features of the shape stream", 1, 256, shortest=4, longest=4),
            "filters": Parameter(
                16, "features of the decoder's finest level; the coarsest has 16 times as many", 1, 128
            ),
            "norm": _NORM,
            "deep_supervision": Parameter(True, "logits of every decoder level in training"),
        },
        paper={
            "features": 64,
            "growth": 32,
            "shape": (64, 32, 16, 8),
            "filters": 32,
            "norm": "batch",
            "deep_supervision": False,
            "in_channels": 3,
            "out_channels": 4,
            "spatial_dims": 2,
        },
        parameters_paper=31_871_505,
        counting="published as 32,896,505 with the 1,025,000 of DenseNet-121's classifier, which nothing reads",
        deep_supervision=True,
    ),
)
