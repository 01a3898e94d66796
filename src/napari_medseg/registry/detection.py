"""Networks that find objects one by one."""

from __future__ import annotations

from napari_medseg.registry.parameters import NORM_INSTANCE_OR_BATCH
from napari_medseg.registry.spec import NetworkSpec, Parameter

NETWORKS: tuple[NetworkSpec, ...] = (
    NetworkSpec(
        name="mask_rcnn",
        target="napari_medseg.architectures.detection.mask_rcnn:MaskRCNN",
        family="instances",
        year=2017,
        summary="Mask R-CNN on a light U-Net: boxes from anchors, then a class and a mask for each box",
        when="To tell objects of a kind apart that touch, such as lesions, nuclei or vertebrae.",
        reference="He et al., ICCV 2017, doi:10.1109/ICCV.2017.322",
        parameters={
            "features": Parameter(
                (16, 32, 64, 128), "features per level, the finest first", 1, 2048, shortest=2, longest=8
            ),
            "anchors": Parameter((4, 6, 9, 13, 19, 28, 42), "edge lengths of the anchors, in voxels", 1, 1024),
            "roi": Parameter(7, "samples along each axis of a box, for its class", 1, 32),
            "mask": Parameter(8, "samples along each axis of a box, for its mask, which has twice as many", 1, 64),
            "hidden": Parameter(128, "features that describe a box", 1, 4096),
            "norm": NORM_INSTANCE_OR_BATCH,
        },
        features_per_level="features",
        takes="instances",
    ),
)
