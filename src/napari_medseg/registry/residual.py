"""Residual, dense and multi-stream networks."""

from __future__ import annotations

from functools import partial

from napari_medseg.registry.parameters import DROP_MAPS, NORM_GROUP, SUPERVISED
from napari_medseg.registry.spec import Argument, NetworkSpec, Parameter

_GRID = Parameter(
    (6,), "tokens per axis for which positions are learned (one number, or one per axis); interpolated", 1, 256
)
_VNET = {
    "width": Parameter(16, "features of the finest level; each further level has twice as many", 1, 256),
    "norm": NORM_GROUP,
    "dropout": Parameter(0.0, "probability of dropping a feature map at the coarsest level and at the end", 0, 0.95),
    "sdf": Parameter(False, "a second head, of signed distances, which only the shape-aware scheme trains and reads"),
    "deep_supervision": SUPERVISED,
}
_PUBLISHED_VNET: dict[str, Argument] = {
    "norm": "batch",
    "dropout": 0.5,
    "sdf": True,
    "deep_supervision": False,
    "in_channels": 1,
    "out_channels": 1,
}
_light = partial(NetworkSpec, family="light 2D")
_OR_NONE = Parameter("group", "normalisation after each convolution", choices=("group", "instance", "batch", "none"))
_WIDTH = Parameter(32, "features of the encoder's stem, a multiple of 4", 4, 256)
_VGG = Parameter((32, 64, 128, 256, 256), "features per level", 1, 2048, shortest=5, longest=5)
_BLOCKS = Parameter((3, 4, 6, 3), "bottlenecks per stage of the encoder", 1, 64, shortest=4, longest=4)

NETWORKS: tuple[NetworkSpec, ...] = (
    NetworkSpec(
        name="vnet",
        target="napari_medseg.architectures.residual.vnet:VNet",
        family="residual and dense",
        year=2016,
        summary="V-Net: 5^n convolutions in residual stages, batch norm, ELU",
        when="For large structures in volumes, where its 5^n kernels see far; it has many weights.",
        reference="Milletari et al., 3DV 2016, doi:10.1109/3DV.2016.79",
        parameters={
            "width": Parameter(16, "features of the finest level; twice as many in each coarser one", 1, 128),
            "dropout": Parameter(0.0, "probability of dropping a whole feature map in the two deepest levels", 0, 0.95),
        },
        paper={"in_channels": 1, "out_channels": 2},
        parameters_paper=45_597_898,
    ),
    NetworkSpec(
        name="resunet3d",
        target="napari_medseg.architectures.residual.resunet3d:ResUNet3D",
        family="residual and dense",
        year=2017,
        summary="Residual U-Net: pre-activation context modules, class scores of three scales summed",
        when="For tumours in volumes of several channels with little memory.",
        reference="Isensee et al., BrainLes 2017, doi:10.1007/978-3-319-75238-9_25",
        parameters={
            "width": Parameter(16, "features of the finest level; twice as many in each coarser one", 1, 256),
            "levels": Parameter(5, "levels, each half the size of the one before", 2, 8),
            "dropout": Parameter(0.0, "probability of dropping a feature map in a context module", 0, 0.95),
        },
        paper={"in_channels": 4, "out_channels": 4, "dropout": 0.3},
        parameters_paper=9_464_640,
        counting="no count is published",
    ),
    NetworkSpec(
        name="densevoxelnet",
        target="napari_medseg.architectures.residual.dense3d:DenseVoxelNet",
        family="residual and dense",
        year=2017,
        summary="DenseVoxelNet: two dense blocks at half and a quarter of the size, an auxiliary output",
        when="For whole organs such as the heart, when there are few volumes: it has few weights.",
        reference="Yu et al., MICCAI 2017, doi:10.48550/arXiv.1708.00573",
        parameters={
            "growth": Parameter(12, "features that a layer adds", 1, 256),
            "layers": Parameter(12, "layers of each dense block", 1, 64),
            "norm": NORM_GROUP,
            "dropout": DROP_MAPS,
            "deep_supervision": Parameter(True, "the auxiliary output in training"),
        },
        paper={"in_channels": 1, "out_channels": 2, "norm": "batch", "dropout": 0.2},
        parameters_paper=1_783_152,
        deep_supervision=True,
    ),
    NetworkSpec(
        name="skipdensenet3d",
        target="napari_medseg.architectures.residual.dense3d:SkipDenseNet3D",
        family="residual and dense",
        year=2017,
        summary="SkipDenseNet3D: dense blocks, each enlarged at once to full size",
        when="For tissues of the brain, when there are few volumes: it has few weights.",
        reference="Bui et al., arXiv 2017, doi:10.48550/arXiv.1709.03199",
        parameters={
            "width": Parameter(32, "features at full size", 1, 256),
            "growth": Parameter(16, "features that a layer adds", 1, 256),
            "layers": Parameter((4, 4, 4, 4), "layers of each dense block", 1, 64, longest=6),
            "norm": NORM_GROUP,
            "dropout": DROP_MAPS,
        },
        paper={"in_channels": 1, "out_channels": 2, "norm": "batch", "dropout": 0.2},
        parameters_paper=1_551_262,
    ),
    NetworkSpec(
        name="fcn3d",
        target="napari_medseg.architectures.residual.fcn:FCN",
        family="residual and dense",
        year=2015,
        summary="FCN-8s in 3D, an eighth as wide: class scores of three levels summed up",
        when="For comparisons with the beginning of the field; a U-Net keeps more detail.",
        reference="Long et al., CVPR 2015, doi:10.1109/CVPR.2015.7298965",
        parameters={
            "features": Parameter((8, 16, 32, 64, 64), "features per level", 1, 2048, shortest=5, longest=5),
            "hidden": Parameter(512, "features of the two layers at the bottom", 1, 8192),
            "norm": Parameter(
                "group", "normalisation after each convolution", choices=("group", "instance", "batch", "none")
            ),
            "dropout": DROP_MAPS,
        },
        paper={"in_channels": 1, "out_channels": 2, "norm": "none", "dropout": 0.5},
        parameters_paper=12_210_926,
        counting="the widths are those of public code; the paper is of two dimensions",
    ),
    NetworkSpec(
        name="hdenseunet",
        target="napari_medseg.architectures.residual.hdenseunet:HDenseUNet",
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
    NetworkSpec(
        name="hrnet",
        target="napari_medseg.architectures.residual.hrnet:HRNet",
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
            "norm": NORM_GROUP,
        },
        paper={"width": 48, "norm": "batch", "in_channels": 3, "out_channels": 19, "spatial_dims": 2},
        parameters_paper=65_859_379,
        counting="HRNetV2-W48 with the 19 classes of Cityscapes",
    ),
    NetworkSpec(
        name="saunet",
        target="napari_medseg.architectures.residual.saunet:SAUNet",
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
            "norm": NORM_GROUP,
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
    NetworkSpec(
        name="sassnet",
        target="napari_medseg.architectures.residual.sassnet:SASSNet",
        family="residual and dense",
        year=2020,
        summary="SASSNet's V-Net: 3^n convolutions, skips added, a second head for signed distances",
        when="When few of many volumes are labelled: the network that the shape-aware semi-supervised scheme trains.",
        reference="Li et al., MICCAI 2020, doi:10.1007/978-3-030-59710-8_54",
        parameters=_VNET,
        paper=_PUBLISHED_VNET,
        parameters_paper=9_448_866,
        counting="one class as a sigmoid and its signed distance; two classes without the distances are as many",
        deep_supervision=True,
    ),
    NetworkSpec(
        name="canet",
        target="napari_medseg.architectures.residual.sassnet:CANet",
        family="transformer",
        year=2023,
        summary="CA-Net: SASSNet's V-Net with a transformer on its coarsest level",
        when="As sassnet, for structures such as the left atrium whose outline needs the whole volume's context.",
        reference="Zhao et al., Expert Systems with Applications 2023, doi:10.1016/j.eswa.2022.119105",
        parameters={
            **_VNET,
            "hidden": Parameter(168, "features of a token", 1, 4096),
            "layers": Parameter(12, "transformer layers", 1, 64),
            "heads": Parameter(12, "attention heads, a divisor of hidden", 1, 64),
            "mlp": Parameter(3072, "features inside the perceptrons", 1, 16384),
            "grid": _GRID,
        },
        paper={**_PUBLISHED_VNET, "grid": (5, 7, 7)},
        parameters_paper=24_491_330,
        counting="positions for the 245 tokens of 80 x 112 x 112 voxels (Z, Y, X)",
        deep_supervision=True,
    ),
    _light(
        name="pspnet",
        target="napari_medseg.architectures.residual.dilated:PSPNet",
        year=2017,
        summary="PSPNet: averages over parts of the image beside a dilated ResNet",
        when="For large objects whose place in the image tells what they are.",
        reference="Zhao et al., CVPR 2017, doi:10.1109/CVPR.2017.660",
        parameters={"width": _WIDTH, "blocks": _BLOCKS, "norm": NORM_GROUP, "dropout": DROP_MAPS},
        paper={
            "in_channels": 3,
            "out_channels": 19,
            "spatial_dims": 2,
            "width": 64,
            "blocks": (3, 4, 23, 3),
            "norm": "batch",
            "dropout": 0.1,
        },
        parameters_paper=65_707_475,
        counting="on ResNet-101, without the auxiliary loss' branch; reported as 65.7 million",
    ),
    _light(
        name="deeplabv3",
        target="napari_medseg.architectures.residual.dilated:DeepLabV3",
        year=2017,
        summary="DeepLabV3: atrous spatial pyramid pooling at the end of a dilated ResNet",
        when="For large objects of very different sizes; fine borders need a decoder.",
        reference="Chen et al., arXiv 2017, doi:10.48550/arXiv.1706.05587",
        parameters={"width": _WIDTH, "blocks": _BLOCKS, "norm": NORM_GROUP},
        paper={
            "in_channels": 1,
            "out_channels": 2,
            "spatial_dims": 2,
            "width": 64,
            "blocks": (3, 4, 23, 3),
            "norm": "batch",
        },
        parameters_paper=58_158_402,
        counting="on ResNet-101 with a stem of three convolutions",
    ),
    _light(
        name="fcn",
        target="napari_medseg.architectures.residual.fcn:FCN",
        dims=(2,),
        year=2015,
        summary="FCN-8s: VGG-16 made convolutional, class scores of three levels summed up",
        when="For comparisons with the beginning of the field; a U-Net keeps more detail.",
        reference="Long et al., CVPR 2015, doi:10.1109/CVPR.2015.7298965",
        parameters={
            "features": _VGG,
            "hidden": Parameter(512, "features of the two layers at the bottom", 1, 8192),
            "norm": _OR_NONE,
            "dropout": DROP_MAPS,
        },
        paper={
            "in_channels": 3,
            "out_channels": 21,
            "features": (64, 128, 256, 512, 512),
            "hidden": 4096,
            "norm": "none",
            "dropout": 0.5,
        },
        parameters_paper=134_489_759,
        counting="published as 134 million",
    ),
)
