"""Light networks for slices, most of them made for video on small computers."""

from __future__ import annotations

from functools import partial

from napari_medseg.registry.parameters import DROP_MAPS, NORM_GROUP
from napari_medseg.registry.spec import Argument, NetworkSpec, Parameter

_light = partial(NetworkSpec, family="light 2D")
_in_slices = partial(_light, dims=(2,))
_DROPOUT = Parameter(
    0.0, "probability of dropping a feature map at the bottom; a tenth of it in the finer stages", 0, 0.95
)
_CITYSCAPES: dict[str, Argument] = {"in_channels": 3, "out_channels": 19, "norm": "batch"}
_OR_NONE = Parameter("group", "normalisation after each convolution", choices=("group", "instance", "batch", "none"))
_WIDTH = Parameter(32, "features of the encoder's stem, a multiple of 4", 4, 256)
_VGG = Parameter((32, 64, 128, 256, 256), "features per level", 1, 2048, shortest=5, longest=5)

NETWORKS: tuple[NetworkSpec, ...] = (
    _in_slices(
        name="enet",
        target="napari_medseg.architectures.light.bottleneck:ENet",
        year=2016,
        summary="ENet: dilated and asymmetric bottlenecks, pooling indices given back",
        when="For slices in real time on a CPU; the classic of its kind, surpassed by erfnet.",
        reference="Paszke et al., arXiv 2016, doi:10.48550/arXiv.1606.02147",
        parameters={"norm": NORM_GROUP, "dropout": _DROPOUT},
        paper={**_CITYSCAPES, "dropout": 0.1},
        parameters_paper=361_543,
        counting="published as 0.37 million",
    ),
    _in_slices(
        name="erfnet",
        target="napari_medseg.architectures.light.factorised:ERFNet",
        year=2018,
        summary="ERFNet: residual pairs of 3 x 1 and 1 x 3 convolutions",
        when="A sound first choice among the light networks for slices.",
        reference="Romera et al., IEEE TITS 2018, doi:10.1109/TITS.2017.2750080",
        parameters={"norm": NORM_GROUP, "dropout": _DROPOUT},
        paper={**_CITYSCAPES, "dropout": 0.3},
        parameters_paper=2_064_191,
        counting="published as 2.1 million",
    ),
    _in_slices(
        name="esnet",
        target="napari_medseg.architectures.light.factorised:ESNet",
        year=2019,
        summary="ESNet: ERFNet made symmetric, with parallel dilations",
        when="As erfnet, with a fifth fewer weights.",
        reference="Wang et al., PRCV 2019, doi:10.48550/arXiv.1906.09826",
        parameters={"norm": NORM_GROUP, "dropout": _DROPOUT},
        paper={**_CITYSCAPES, "dropout": 0.3},
        parameters_paper=1_660_607,
        counting="published as 1.66 million; each branch of a parallel unit has a norm of its own",
    ),
    _in_slices(
        name="lednet",
        target="napari_medseg.architectures.light.factorised:LEDNet",
        year=2019,
        summary="LEDNet: channels split and shuffled, an attention pyramid as decoder",
        when="For large objects in slices: its logits are interpolated from an eighth of the size.",
        reference="Wang et al., ICIP 2019, doi:10.1109/ICIP.2019.8803154",
        parameters={"norm": NORM_GROUP, "dropout": _DROPOUT},
        paper={**_CITYSCAPES, "dropout": 0.3},
        parameters_paper=922_821,
        counting="published as 0.94 million",
    ),
    _in_slices(
        name="edanet",
        target="napari_medseg.architectures.light.asymmetric:EDANet",
        year=2019,
        summary="EDANet: densely connected modules of factorised, dilated convolutions",
        when="For large objects in slices with few weights; logits come from an eighth of the size.",
        reference="Lo et al., ACM MMAsia 2019, doi:10.1145/3338533.3366558",
        parameters={
            "growth": Parameter(40, "features that a module adds", 1, 256),
            "norm": NORM_GROUP,
            "dropout": DROP_MAPS,
        },
        paper={**_CITYSCAPES, "dropout": 0.02},
        parameters_paper=689_485,
        counting="published as 0.68 million",
    ),
    _in_slices(
        name="dabnet",
        target="napari_medseg.architectures.light.asymmetric:DABNet",
        year=2019,
        summary="DABNet: depthwise factorised bottlenecks, plain beside dilated",
        when="For large objects in slices, where erfnet is too slow.",
        reference="Li et al., BMVC 2019, doi:10.48550/arXiv.1907.11357",
        parameters={
            "blocks": Parameter(
                (3, 6), "bottlenecks at a quarter and an eighth of the size", 1, 32, shortest=2, longest=2
            ),
            "norm": NORM_GROUP,
        },
        paper=_CITYSCAPES,
        parameters_paper=756_643,
        counting="published as 0.76 million",
    ),
    _in_slices(
        name="fssnet",
        target="napari_medseg.architectures.light.bottleneck:FSSNet",
        year=2019,
        summary="FSSNet: factorised, then dilated bottlenecks; skips added in the decoder",
        when="For slices in real time with a fifth of a million weights.",
        reference="Zhang et al., IEEE TII 2019, doi:10.1109/TII.2018.2849348",
        parameters={"norm": NORM_GROUP, "dropout": _DROPOUT},
        paper={**_CITYSCAPES, "dropout": 0.3},
        parameters_paper=182_159,
        counting="published as 0.2 million",
    ),
    _in_slices(
        name="espnet",
        target="napari_medseg.architectures.light.pyramid:ESPNet",
        year=2018,
        summary="ESPNet: pyramids of dilated convolutions, a decoder of class scores",
        when="For slices in real time where many classes share few weights.",
        reference="Mehta et al., ECCV 2018, doi:10.1007/978-3-030-01249-6_34",
        parameters={
            "blocks": Parameter(
                (2, 8), "pyramids at a quarter and an eighth of the size", 0, 32, shortest=2, longest=2
            ),
            "norm": NORM_GROUP,
        },
        paper={**_CITYSCAPES, "out_channels": 20},
        parameters_paper=365_109,
        counting="published as 0.364 million",
    ),
    _in_slices(
        name="espnetv2",
        target="napari_medseg.architectures.light.pyramid:ESPNetv2",
        year=2019,
        summary="ESPNetv2: grouped and depthwise pyramids, the image added at every scale",
        when="As espnet, more exact for as many operations.",
        reference="Mehta et al., CVPR 2019, doi:10.1109/CVPR.2019.00941",
        parameters={
            "width": Parameter(32, "features at half the size, a multiple of 16", 16, 256),
            "blocks": Parameter((3, 7), "units at an eighth and a sixteenth of the size", 0, 32, shortest=2, longest=2),
            "norm": NORM_GROUP,
            "dropout": DROP_MAPS,
        },
        paper={**_CITYSCAPES, "out_channels": 20, "width": 64, "dropout": 0.2},
        parameters_paper=1_252_558,
        counting="the largest of the published widths",
    ),
    _in_slices(
        name="cgnet",
        target="napari_medseg.architectures.light.guided:CGNet",
        year=2021,
        summary="CGNet: neighbourhood and wider surroundings joined, weighted by the whole image",
        when="For slices in real time where the surroundings tell what a voxel is.",
        reference="Wu et al., IEEE TIP 2021, doi:10.1109/TIP.2020.3042065",
        parameters={
            "blocks": Parameter(
                (3, 21), "guided blocks at a quarter and an eighth of the size", 1, 64, shortest=2, longest=2
            ),
            "norm": NORM_GROUP,
        },
        paper=_CITYSCAPES,
        parameters_paper=496_306,
        counting="published as 0.5 million",
    ),
    _in_slices(
        name="fpenet",
        target="napari_medseg.architectures.light.guided:FPENet",
        year=2019,
        summary="FPENet: dilations passed on between quarters of the channels, attention in the decoder",
        when="For small objects in slices: its decoder goes back to half the size.",
        reference="Liu and Yin, BMVC 2019, doi:10.48550/arXiv.1909.08599",
        parameters={
            "width": Parameter(16, "features of the finest level, a multiple of 4", 4, 256),
            "blocks": Parameter((1, 3, 9), "blocks per level", 1, 32, shortest=3, longest=3),
            "norm": NORM_GROUP,
        },
        paper=_CITYSCAPES,
        parameters_paper=346_485,
        counting="published as 0.4 million; every block of the coarser levels widens fourfold here",
    ),
    _in_slices(
        name="contextnet",
        target="napari_medseg.architectures.light.fast:ContextNet",
        year=2018,
        summary="ContextNet: a shallow branch for detail, a deep one at a quarter of the size for context",
        when="For large slices, of a thousand pixels and more, in real time.",
        reference="Poudel et al., BMVC 2018, doi:10.48550/arXiv.1805.04554",
        parameters={"norm": NORM_GROUP, "dropout": DROP_MAPS},
        paper={**_CITYSCAPES, "dropout": 0.1},
        parameters_paper=876_563,
        counting="published as 0.85 million",
    ),
    _in_slices(
        name="fastscnn",
        target="napari_medseg.architectures.light.fast:FastSCNN",
        year=2019,
        summary="Fast-SCNN: one learnt down-sampling for detail and context, a pooled pyramid",
        when="For large slices, of a thousand pixels and more; the fastest of the light networks.",
        reference="Poudel et al., BMVC 2019, doi:10.48550/arXiv.1902.04502",
        parameters={"norm": NORM_GROUP, "dropout": DROP_MAPS},
        paper={**_CITYSCAPES, "dropout": 0.1},
        parameters_paper=1_138_051,
        counting="published as 1.11 million",
    ),
    _in_slices(
        name="miniseg",
        target="napari_medseg.architectures.light.miniseg:MiniSeg",
        year=2021,
        summary="MiniSeg: attentive dilated blocks beside large depthwise convolutions",
        when="For lesions in slices when there are only tens of annotated cases: it has 83 thousand weights.",
        reference="Qiu et al., AAAI 2021, doi:10.48550/arXiv.2004.09750",
        parameters={
            "blocks": Parameter((2, 3, 8, 6), "blocks per level", 1, 32, shortest=4, longest=4),
            "norm": NORM_GROUP,
            "dropout": DROP_MAPS,
        },
        paper={"in_channels": 1, "out_channels": 2, "norm": "batch", "dropout": 0.01},
        parameters_paper=82_506,
        counting="without the supervised outputs of the coarser levels",
    ),
    _light(
        name="linknet",
        target="napari_medseg.architectures.light.decoders:LinkNet",
        year=2017,
        summary="LinkNet: a ResNet-18 whose scales are added to those of the decoder",
        when="For slices in real time where a few million weights may be spent.",
        reference="Chaurasia and Culurciello, VCIP 2017, doi:10.1109/VCIP.2017.8305148",
        parameters={"width": _WIDTH, "norm": NORM_GROUP},
        paper={"in_channels": 3, "out_channels": 19, "spatial_dims": 2, "width": 64, "norm": "batch"},
        parameters_paper=11_535_699,
        counting="published as 11.5 million",
    ),
    _light(
        name="segnet",
        target="napari_medseg.architectures.light.decoders:SegNet",
        dims=(2,),
        year=2017,
        summary="SegNet: VGG-16 and its mirror image, pooling indices given back",
        when="For comparisons with older work; a U-Net keeps more detail.",
        reference="Badrinarayanan et al., IEEE TPAMI 2017, doi:10.1109/TPAMI.2016.2644615",
        parameters={"features": _VGG, "norm": NORM_GROUP},
        paper={"in_channels": 1, "out_channels": 2, "features": (64, 128, 256, 512, 512), "norm": "batch"},
        parameters_paper=29_443_010,
    ),
    _light(
        name="sqnet",
        target="napari_medseg.architectures.light.decoders:SQNet",
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
)
