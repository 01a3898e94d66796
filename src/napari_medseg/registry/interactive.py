"""Networks that a user guides, and one on graphs."""

from __future__ import annotations

from napari_medseg.registry.spec import NetworkSpec, Parameter

_DEEPIGEOS = {
    "width": Parameter(16, "features of every block, a multiple of 4", 4, 256),
    "dropout": Parameter(0.5, "probability of dropping a feature before the classifier", 0, 0.95),
}
_DEEPIGEOS_REFERENCE = "Wang et al., TPAMI 2018, doi:10.1109/TPAMI.2018.2840695"

NETWORKS: tuple[NetworkSpec, ...] = (
    NetworkSpec(
        name="deepigeos_pnet",
        target="napari_medseg.architectures.interactive.deepigeos:PNet",
        family="interactive and graph",
        year=2018,
        summary="DeepIGeoS' P-Net: dilated convolutions at full size, very few weights",
        when="As the first proposal of DeepIGeoS, or where fine detail counts and cases are few; slow on big volumes.",
        reference=_DEEPIGEOS_REFERENCE,
        parameters=_DEEPIGEOS,
        paper={"in_channels": 1, "out_channels": 2},
        parameters_paper=48_262,
    ),
    NetworkSpec(
        name="deepigeos_rnet",
        target="napari_medseg.architectures.interactive.deepigeos:RNet",
        family="interactive and graph",
        year=2018,
        summary="DeepIGeoS' R-Net: P-Net on the image, a first segmentation and the distances to clicks",
        when="To correct a segmentation by clicks; trained after P-Net, on its mistakes.",
        reference=_DEEPIGEOS_REFERENCE,
        parameters=_DEEPIGEOS,
        paper={"in_channels": 1, "out_channels": 2},
        parameters_paper=49_558,
        counting="one channel of the image, one of the proposal and two of distances",
        takes="image+prompts",
    ),
    NetworkSpec(
        name="mem3d",
        target="napari_medseg.architectures.interactive.mem3d:Mem3D",
        family="interactive and graph",
        year=2021,
        summary="Volumetric memory network: slices with masks guide the segmentation of the next slice",
        when="To segment any object of a volume from a mask of one slice, without training for that object.",
        reference="Zhou et al., MICCAI 2021, doi:10.48550/arXiv.2106.10686",
        dims=(2,),
        parameters={
            "width": Parameter(
                64, "features of the encoders' stems; their stages have 4, 8 and 16 times as many", 1, 256
            ),
            "blocks": Parameter((3, 4, 6), "residual blocks per stage", 1, 64, shortest=3, longest=3),
            "key": Parameter(128, "features by which places are compared", 1, 1024),
            "value": Parameter(512, "features that are read from the memory", 1, 2048),
            "decoder": Parameter(256, "features of the decoder", 1, 1024),
            "aspp": Parameter(True, "dilated branches where the decoder starts"),
            "quality": Parameter(True, "a head that rates the mask"),
            "dense": Parameter(False, "the memory is read at an eighth of the size of a slice, not at a sixteenth"),
            "carry": Parameter(False, "a slice is seen beside the last one in memory and its mask"),
            "fine": Parameter(False, "masks are decoded at the size of the slice, not at a quarter of it"),
            "norm": Parameter("group", "normalisation in the encoders", choices=("group", "instance", "batch")),
        },
        paper={"norm": "batch", "in_channels": 3, "out_channels": 2, "spatial_dims": 2},
        parameters_paper=73_591_763,
        counting="47,121,410 without the head that rates the mask, 38,925,570 also without the dilated branches",
        takes="memory",
    ),
    NetworkSpec(
        name="graph_unet",
        target="napari_medseg.architectures.interactive.graph_unet:GraphUNet",
        family="interactive and graph",
        year=2019,
        summary="Graph U-Net: graph convolutions, top-k pooling and un-pooling on supervoxels",
        when="For huge images that are first cut into supervoxels, whose graph is a thousand times smaller.",
        reference="Gao and Ji, ICML 2019, doi:10.48550/arXiv.1905.05178",
        parameters={
            "channels": Parameter(64, "features of a node at every level", 1, 2048),
            "kept_percent": Parameter((80, 60, 50, 40), "nodes that each pooling keeps, in percent", 1, 100, longest=8),
            "dropout": Parameter(0.0, "probability of dropping a feature of a node", 0, 0.95),
        },
        takes="graph",
    ),
)
