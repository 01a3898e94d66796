"""Networks for volumes that are no U-Nets."""

from __future__ import annotations

from napari_medseg.registry.spec import NetworkSpec, Parameter

_NORM = Parameter("group", "normalisation after each convolution", choices=("group", "instance", "batch"))
_DROP = Parameter(0.0, "probability of dropping a feature map", 0, 0.95)

NETWORKS: tuple[NetworkSpec, ...] = (
    NetworkSpec(
        name="vnet",
        target="napari_medseg.networks.vnet:VNet",
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
        target="napari_medseg.networks.resunet3d:ResUNet3D",
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
        target="napari_medseg.networks.dense3d:DenseVoxelNet",
        family="residual and dense",
        year=2017,
        summary="DenseVoxelNet: two dense blocks at half and a quarter of the size, an auxiliary output",
        when="For whole organs such as the heart, when there are few volumes: it has few weights.",
        reference="Yu et al., MICCAI 2017, doi:10.48550/arXiv.1708.00573",
        parameters={
            "growth": Parameter(12, "features that a layer adds", 1, 256),
            "layers": Parameter(12, "layers of each dense block", 1, 64),
            "norm": _NORM,
            "dropout": _DROP,
            "deep_supervision": Parameter(True, "the auxiliary output in training"),
        },
        paper={"in_channels": 1, "out_channels": 2, "norm": "batch", "dropout": 0.2},
        parameters_paper=1_783_152,
        deep_supervision=True,
    ),
    NetworkSpec(
        name="skipdensenet3d",
        target="napari_medseg.networks.dense3d:SkipDenseNet3D",
        family="residual and dense",
        year=2017,
        summary="SkipDenseNet3D: dense blocks, each enlarged at once to full size",
        when="For tissues of the brain, when there are few volumes: it has few weights.",
        reference="Bui et al., arXiv 2017, doi:10.48550/arXiv.1709.03199",
        parameters={
            "width": Parameter(32, "features at full size", 1, 256),
            "growth": Parameter(16, "features that a layer adds", 1, 256),
            "layers": Parameter((4, 4, 4, 4), "layers of each dense block", 1, 64, longest=6),
            "norm": _NORM,
            "dropout": _DROP,
        },
        paper={"in_channels": 1, "out_channels": 2, "norm": "batch", "dropout": 0.2},
        parameters_paper=1_551_262,
    ),
    NetworkSpec(
        name="fcn3d",
        target="napari_medseg.networks.fcn:FCN",
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
            "dropout": _DROP,
        },
        paper={"in_channels": 1, "out_channels": 2, "norm": "none", "dropout": 0.5},
        parameters_paper=12_210_926,
        counting="the widths are those of public code; the paper is of two dimensions",
    ),
)
