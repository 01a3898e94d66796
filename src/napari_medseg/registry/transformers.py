"""Networks whose coarse levels are transformers or perceptrons on tokens."""

from __future__ import annotations

from napari_medseg.registry.parameters import NORM_GROUP, POSITIONS_GRID, SUPERVISED
from napari_medseg.registry.spec import NetworkSpec, Parameter

NETWORKS: tuple[NetworkSpec, ...] = (
    NetworkSpec(
        name="transunet",
        target="napari_medseg.architectures.transformers.transunet:TransUNet",
        family="transformer",
        year=2021,
        summary="TransUNet: residual encoder, transformer on its coarsest map, U-Net's decoder",
        when="For organs that differ by their place in the body, with some hundred labelled cases.",
        reference="Chen et al., arXiv 2021, doi:10.48550/arXiv.2102.04306",
        parameters={
            "width": Parameter(32, "features of the stem; the stages have 4, 8 and 16 times as many", 1, 256),
            "blocks": Parameter((3, 4, 9), "residual blocks per stage", 1, 64, shortest=3, longest=3),
            "hidden": Parameter(384, "features of a token", 1, 4096),
            "layers": Parameter(6, "transformer layers", 1, 64),
            "heads": Parameter(6, "attention heads, a divisor of hidden", 1, 64),
            "mlp": Parameter(1536, "features inside the perceptrons", 1, 16384),
            "grid": POSITIONS_GRID,
            "decoder": Parameter((128, 64, 32, 16), "features per decoder stage", 1, 1024, shortest=4, longest=4),
            "norm": NORM_GROUP,
            "dropout": Parameter(0.0, "probability of dropping a feature of a token", 0, 0.95),
            "deep_supervision": SUPERVISED,
        },
        paper={
            "width": 64,
            "hidden": 768,
            "layers": 12,
            "heads": 12,
            "mlp": 3072,
            "grid": (14,),
            "decoder": (256, 128, 64, 16),
            "norm": "batch",
            "dropout": 0.1,
            "deep_supervision": False,
            "in_channels": 3,
            "out_channels": 9,
            "spatial_dims": 2,
        },
        parameters_paper=105_277_081,
        counting="R50-ViT-B/16 at 224 x 224 with the 9 classes of Synapse",
        deep_supervision=True,
    ),
    NetworkSpec(
        name="unext",
        target="napari_medseg.architectures.transformers.unext:UNeXt",
        family="transformer",
        year=2022,
        summary="UNeXt: narrow convolutions, then perceptrons on tokens whose channels are shifted sideways",
        when="For quick results on a small computer; one of the smallest networks here.",
        reference="Valanarasu and Patel, MICCAI 2022, doi:10.1007/978-3-031-16443-9_3",
        parameters={
            "channels": Parameter(
                (16, 32, 128, 160, 256), "features of the five stages, the finest first", 1, 1024, shortest=5, longest=5
            ),
            "norm": NORM_GROUP,
            "deep_supervision": SUPERVISED,
        },
        paper={"norm": "batch", "deep_supervision": False, "in_channels": 3, "out_channels": 1, "spatial_dims": 2},
        parameters_paper=1_471_921,
        counting="of the widths 16, 32, 128, 160 and 256; the text's 32, 64, 128, 160 and 256 would have more",
        deep_supervision=True,
    ),
    NetworkSpec(
        name="unest",
        target="napari_medseg.architectures.transformers.unest:UNesT",
        family="transformer",
        year=2023,
        summary="UNesT: nested transformers on blocks of tokens as the encoder of a U-Net",
        when="For weights of the published models of brain and kidney; with little data it learns sooner than unetr.",
        reference="Yu et al., Medical Image Analysis 2023, doi:10.1016/j.media.2023.102939",
        dims=(3,),
        parameters={
            "feature_size": Parameter(16, "features of the finest level", 1, 64),
            "depths": Parameter((2, 2, 8), "transformer layers per level", 1, 32, shortest=3, longest=3),
            "num_heads": Parameter((4, 8, 16), "heads of attention per level", 1, 64, shortest=3, longest=3),
            "positions": Parameter(24, "learnt positions along each axis, of 4 voxels each; a multiple of 4", 4, 64),
        },
        paper={"in_channels": 1, "out_channels": 133},
        parameters_paper=87_205_158,
        counting="published as 87.2 million",
    ),
)
