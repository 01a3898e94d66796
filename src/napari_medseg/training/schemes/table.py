"""The table of the schemes that a user can name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from napari_medseg.errors import UnknownNameError, did_you_mean
from napari_medseg.training.schemes.scheme import SchemeSpec

SCHEMES: Mapping[str, SchemeSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            SchemeSpec(
                name="supervised",
                target="napari_medseg.training.schemes.supervised:Supervised",
                summary="from images and their labels",
                when="Where all images are labelled, or the others are of another kind.",
                is_plain=True,
            ),
            SchemeSpec(
                name="mean-teacher",
                target="napari_medseg.training.schemes.semi.mean_teacher:MeanTeacher",
                summary="an average of the weights teaches on images without labels",
                when="Where few of many images of a kind are labelled, and there is time for twice as long a training.",
                reference="Tarvainen and Valpola, NeurIPS 2017; Yu et al., MICCAI 2019",
                takes_unlabelled=True,
                knobs={"unlabelled_weight": 1.0, "ramp": 0.3, "doubt_passes": 0},
            ),
            SchemeSpec(
                name="self-training",
                target="napari_medseg.training.schemes.semi.self_training:SelfTraining",
                summary="from sure labels that an average of the weights gives whole images without labels",
                when="Where a longer training on the labelled images alone gets no better.",
                reference="Lee, ICML workshop 2013; Xie et al., CVPR 2020",
                takes_unlabelled=True,
                knobs={"unlabelled_weight": 1.0, "ramp": 0.4, "confidence": 0.8, "rounds": 3},
            ),
            SchemeSpec(
                name="copy-paste",
                target="napari_medseg.training.schemes.semi.copy_paste:CopyPaste",
                summary="from mixtures of labelled images with others, both ways",
                when="Where very few images are labelled, and one looks much like another.",
                reference="Bai et al., CVPR 2023",
                takes_unlabelled=True,
                knobs={"unlabelled_weight": 0.5, "ramp": 0.3, "confidence": 0.0},
            ),
            SchemeSpec(
                name="sassnet",
                target="napari_medseg.training.schemes.semi.shape_aware:SASSNet",
                summary="a discriminator asks for outlines on other images like those on labelled ones",
                when="For one compact organ of a known shape, such as the left atrium, with hours to train.",
                reference="Li et al., MICCAI 2020, doi:10.1007/978-3-030-59710-8_54",
                takes_unlabelled=True,
                network="sassnet",
                arguments={"sdf": True},
                knobs={"unlabelled_weight": 0.01, "ramp": 1.0, "critic_width": 64, "descent": "auto"},
            ),
            SchemeSpec(
                name="canet",
                target="napari_medseg.training.schemes.semi.shape_aware:CANet",
                summary="as sassnet, with attention in the discriminator and a transformer in the network",
                when="As sassnet, where the outline needs the context of the whole volume, and there is a GPU.",
                reference="Zhao et al., Expert Systems with Applications 2023, doi:10.1016/j.eswa.2022.119105",
                takes_unlabelled=True,
                network="canet",
                arguments={"sdf": True},
                knobs={"unlabelled_weight": 0.01, "ramp": 1.0, "critic_width": 64, "descent": "auto"},
            ),
            SchemeSpec(
                name="memory",
                target="napari_medseg.training.schemes.guided.memory:MemoryClips",
                describe="napari_medseg.training.schemes.guided.described:of_memory",
                summary="a memory network that carries the mask of a slice to the next ones, from clips of slices",
                when="To fill volumes from painted slices, of objects that it was never trained for.",
                reference="Zhou et al., MICCAI 2021",
                network="mem3d",
                arguments={
                    "width": 8,
                    "blocks": (1, 1, 1),
                    "key": 32,
                    "value": 64,
                    "decoder": 32,
                    "aspp": False,
                    "dense": True,
                    "carry": True,
                    "fine": True,
                },
                takes="memory",
            ),
            SchemeSpec(
                name="clicks",
                target="napari_medseg.training.schemes.guided.clicks:SimulatedClicks",
                describe="napari_medseg.training.schemes.guided.described:of_clicks",
                summary="an R-Net that corrects labels by clicks, from simulated clicks on what a P-Net gets wrong",
                when="To correct labels of the structures in the cases by a few clicks.",
                reference="Wang et al., TPAMI 2018",
                network="deepigeos_rnet",
                takes="image+prompts",
            ),
            SchemeSpec(
                name="supervoxels",
                target="napari_medseg.training.schemes.guided.graph:Supervoxels",
                describe="napari_medseg.training.schemes.guided.described:of_graph",
                summary="a graph network on supervoxels, from the commonest label of each",
                when="For large images in which intensities tell the structures apart, and borders may be rough.",
                reference="Gao and Ji, ICML 2019",
                network="graph_unet",
                takes="graph",
            ),
            SchemeSpec(
                name="synthesis",
                target="napari_medseg.training.schemes.made.synthesis:Synthesis",
                summary="from made-up images of the labels, in any contrast; no image is needed",
                when="Where there are label maps but no images, or the images to segment have any contrast.",
                reference="Billot et al., Medical Image Analysis 2023",
                from_labels=True,
                makes_images=True,
                knobs={"made_share": 0.5},
            ),
            SchemeSpec(
                name="adversarial",
                target="napari_medseg.training.schemes.made.adversarial:Adversarial",
                summary="also to be taken for a person by a critic of label maps",
                when="Where single voxels are right and the shapes are not.",
                reference="Luc et al., NIPS Workshop on Adversarial Training 2016",
                knobs={"critic_weight": 0.1},
            ),
            SchemeSpec(
                name="acnn",
                target="napari_medseg.training.schemes.made.acnn:ShapePrior",
                summary="from images with hidden parts, to find shapes that an autoencoder of label maps knows",
                when="Where artefacts hide parts of organs of like shapes; compare it with supervised first.",
                reference="Oktay et al., IEEE TMI 2018",
                knobs={"shape_weight": 0.002, "first_share": 0.15},
            ),
            SchemeSpec(
                name="cgan",
                target="napari_medseg.training.schemes.made.cgan:ConditionalGan",
                summary="also from label maps and images that further networks make up",
                when="Where few cases are labelled and there are no others; try stronger augmentation first.",
                reference="Isola et al., CVPR 2017; Guibas et al., 2017",
                makes_images=True,
                knobs={"made_share": 0.5, "first_share": 0.3},
            ),
            SchemeSpec(
                name="distance-map",
                target="napari_medseg.training.schemes.supervised:Supervised",
                summary="from how deep each voxel lies in its object, which tells objects apart that touch",
                when="Where objects of a kind touch along much of their border, such as nuclei.",
                learns="depths",
            ),
            SchemeSpec(
                name="mask-rcnn",
                target="napari_medseg.training.schemes.mask_rcnn:MaskRCNNScheme",
                summary="from objects one by one, each with a box and a mask",
                when="Where objects overlap or differ in class, and there are many to learn from.",
                reference="He et al., ICCV 2017, doi:10.1109/ICCV.2017.322",
                learns="objects",
                network="mask_rcnn",
                takes="instances",
            ),
            SchemeSpec(
                name="boundary-patch",
                target="napari_medseg.training.schemes.refiners:BoundaryPatch",
                summary="a refiner of boxes along boundaries, from the errors of the model that init names",
                when="Where a model finds the structures and their boundaries are rough.",
                reference="Tang et al., CVPR 2021",
                learns_errors=True,
            ),
            SchemeSpec(
                name="point-rend",
                target="napari_medseg.training.schemes.refiners:PointRendScheme",
                summary="a refiner of single points, from the errors and the features of the model that init names",
                when="As boundary-patch, where a patch of the image alone does not show the boundary.",
                reference="Kirillov et al., CVPR 2020",
                learns_errors=True,
            ),
            SchemeSpec(
                name="adapt-statistics",
                target="napari_medseg.training.schemes.domain.statistics:AdaptStatistics",
                summary="for images of another scanner or contrast: at their intensities, half in random contrasts",
                when="Where labels are of one scanner, contrast or modality and the images to segment of another.",
                reference="Nyul and Udupa, MRM 1999; Li et al., Pattern Recognition 2018; Ouyang et al., IEEE TMI 2023",
                knobs={"made_share": 0.5},
                takes_target=True,
            ),
            SchemeSpec(
                name="cyclegan",
                target="napari_medseg.training.schemes.domain.cyclegan:CycleGan",
                summary="for images of another contrast: on labelled images translated into it",
                when="Where labels are of one contrast or modality and the images to segment of another.",
                reference="Zhu et al., ICCV 2017, doi:10.1109/ICCV.2017.244",
                knobs={"translator": "light", "first_share": 0.6},
                takes_target=True,
            ),
        )
    }
)
"""The schemes that a training can follow."""


def scheme_named(name: str, schemes: Mapping[str, SchemeSpec] = SCHEMES) -> SchemeSpec:
    """The scheme of that name; UnknownNameError lists the known ones."""
    if name not in schemes:
        raise UnknownNameError(f"unknown scheme {name!r}: {did_you_mean(name, schemes)}known are {', '.join(schemes)}")
    return schemes[name]
