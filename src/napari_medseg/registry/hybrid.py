"""Networks that join slices and volumes."""

from __future__ import annotations

from napari_medseg.registry.spec import NetworkSpec, Parameter

NETWORKS: tuple[NetworkSpec, ...] = (
    NetworkSpec(
        name="hdenseunet",
        target="napari_medseg.networks.hdenseunet:HDenseUNet",
        family="hybrid",
        year=2018,
        summary="H-DenseUNet: a 2D DenseUNet on adjacent slices guides a 3D one, and their features are fused",
        when="For CT in thick slices, such as liver and its tumours, when there is time to train in two stages.",
        reference="Li et al., IEEE TMI 2018, doi:10.1109/TMI.2018.2845918",
        dims=(3,),
        parameters={
            "features": Parameter(48, "features of the first convolution of either part", 1, 512),
            "width": Parameter(32, "features at full size, which are fused", 1, 512),
            "planar_growth": Parameter(24, "features that each layer of the 2D part adds", 1, 128),
            "planar_blocks": Parameter(
                (4, 6, 8, 6), "layers of the four dense blocks of the 2D part", 1, 64, shortest=4, longest=4
            ),
            "growth": Parameter(24, "features that each layer of the 3D part adds", 1, 128),
            "blocks": Parameter(
                (3, 4, 8, 6), "layers of the four dense blocks of the 3D part", 1, 64, shortest=4, longest=4
            ),
            "norm": Parameter("instance", "normalisation", choices=("instance", "group", "batch")),
            "skips": Parameter(True, "whether the scales of the encoders are added in the decoders"),
            "score_scale": Parameter(
                1.0, "factor that brings the 2D scores to the scale of the image; 250 for Hounsfield units", 0.001, 1000
            ),
            "residual": Parameter(True, "whether the fused logits are a correction of those of the 2D part"),
            "dropout": Parameter(0.0, "probability of dropping a fused feature in training", 0, 0.95),
            "deep_supervision": Parameter(True, "logits of the 2D and of the 3D part too in training"),
        },
        paper={
            "features": 96,
            "width": 64,
            "planar_growth": 48,
            "planar_blocks": (6, 12, 36, 24),
            "growth": 32,
            "blocks": (3, 4, 12, 8),
            "norm": "batch",
            "skips": False,
            "score_scale": 250.0,
            "residual": False,
            "dropout": 0.3,
            "in_channels": 1,
            "out_channels": 3,
        },
        parameters_paper=60_950_785,
        counting="44,862,339 in 2D, 15,977,467 in 3D and 110,979 to fuse, as in the authors' hybrid, without skips; "
        "the scale and shift that its Keras Scale layers add to each norm are not counted",
        deep_supervision=True,
    ),
)
