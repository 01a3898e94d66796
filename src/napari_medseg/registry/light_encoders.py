"""Networks for slices on the encoders of image classification."""

from __future__ import annotations

from functools import partial

from napari_medseg.registry.spec import NetworkSpec, Parameter

_light = partial(NetworkSpec, family="light 2D")
_NORM = Parameter("group", "normalisation after each convolution", choices=("group", "instance", "batch"))
_OR_NONE = Parameter("group", "normalisation after each convolution", choices=("group", "instance", "batch", "none"))
_DROP = Parameter(0.0, "probability of dropping a feature map", 0, 0.95)
_WIDTH = Parameter(32, "features of the encoder's stem, a multiple of 4", 4, 256)
_VGG = Parameter((32, 64, 128, 256, 256), "features per level", 1, 2048, shortest=5, longest=5)
_BLOCKS = Parameter((3, 4, 6, 3), "bottlenecks per stage of the encoder", 1, 64, shortest=4, longest=4)

NETWORKS: tuple[NetworkSpec, ...] = (
    _light(
        name="linknet",
        target="napari_medseg.networks.light_decoders:LinkNet",
        year=2017,
        summary="LinkNet: a ResNet-18 whose scales are added to those of the decoder",
        when="For slices in real time where a few million weights may be spent.",
        reference="Chaurasia and Culurciello, VCIP 2017, doi:10.1109/VCIP.2017.8305148",
        parameters={"width": _WIDTH, "norm": _NORM},
        paper={"in_channels": 3, "out_channels": 19, "spatial_dims": 2, "width": 64, "norm": "batch"},
        parameters_paper=11_535_699,
        counting="published as 11.5 million",
    ),
    _light(
        name="segnet",
        target="napari_medseg.networks.light_decoders:SegNet",
        dims=(2,),
        year=2017,
        summary="SegNet: VGG-16 and its mirror image, pooling indices given back",
        when="For comparisons with older work; a U-Net keeps more detail.",
        reference="Badrinarayanan et al., IEEE TPAMI 2017, doi:10.1109/TPAMI.2016.2644615",
        parameters={"features": _VGG, "norm": _NORM},
        paper={"in_channels": 1, "out_channels": 2, "features": (64, 128, 256, 512, 512), "norm": "batch"},
        parameters_paper=29_443_010,
    ),
    _light(
        name="sqnet",
        target="napari_medseg.networks.light_decoders:SQNet",
        dims=(2,),
        year=2016,
        summary="SQNet: SqueezeNet's fire modules, parallel dilations, refined skips",
        when="For comparisons with older work; its encoder is small, its decoder is not.",
        reference="Treml et al., MLITS workshop of NIPS 2016, https://openreview.net/forum?id=S1uHiFyyg",
        parameters={
            "width": Parameter(32, "half the features of the first fire modules, a multiple of 4", 4, 256),
            "norm": _OR_NONE,
        },
        paper={"in_channels": 3, "out_channels": 19, "width": 64, "norm": "none"},
        parameters_paper=16_262_771,
    ),
    _light(
        name="pspnet",
        target="napari_medseg.networks.dilated:PSPNet",
        year=2017,
        summary="PSPNet: averages over parts of the image beside a dilated ResNet",
        when="For large objects whose place in the image tells what they are.",
        reference="Zhao et al., CVPR 2017, doi:10.1109/CVPR.2017.660",
        parameters={"width": _WIDTH, "blocks": _BLOCKS, "norm": _NORM, "dropout": _DROP},
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
        target="napari_medseg.networks.dilated:DeepLabV3",
        year=2017,
        summary="DeepLabV3: atrous spatial pyramid pooling at the end of a dilated ResNet",
        when="For large objects of very different sizes; fine borders need a decoder.",
        reference="Chen et al., arXiv 2017, doi:10.48550/arXiv.1706.05587",
        parameters={"width": _WIDTH, "blocks": _BLOCKS, "norm": _NORM},
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
        target="napari_medseg.networks.fcn:FCN",
        dims=(2,),
        year=2015,
        summary="FCN-8s: VGG-16 made convolutional, class scores of three levels summed up",
        when="For comparisons with the beginning of the field; a U-Net keeps more detail.",
        reference="Long et al., CVPR 2015, doi:10.1109/CVPR.2015.7298965",
        parameters={
            "features": _VGG,
            "hidden": Parameter(512, "features of the two layers at the bottom", 1, 8192),
            "norm": _OR_NONE,
            "dropout": _DROP,
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
