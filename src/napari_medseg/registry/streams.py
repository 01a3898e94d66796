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
)
