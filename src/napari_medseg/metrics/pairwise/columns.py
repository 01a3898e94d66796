"""What each column of the scores means. Help, tooltips, documentation and reports all read this text.

A is the reference and B the prediction; S(M) are the surface voxels of M, d(p, S) is the distance in mm from p to the
nearest voxel of S.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from napari_medseg.config import Preset

_UNITS: Mapping[str, str] = MappingProxyType({"mm": "mm", "mm2": "mm²", "mm3": "mm³", "ml": "ml", "percent": "%"})
"""{last word of a field's name: its unit}."""
_WRITTEN: Mapping[str, str] = MappingProxyType(
    {word.lower(): word for word in ("Dice", "IoU", "F1", "SQ", "PQ", "ECE", "MCE", "Brier", "SD", "ID")}
    | {"fleiss": "Fleiss'", "holm": "Holm", "upto": "up to"}
)
"""{word of a field's name: how people write it}."""

Better = Literal["higher", "lower", "zero", ""]


@dataclass(frozen=True)
class Column:
    """A column of a table, or one number of a whole comparison."""

    title: str
    """Short heading, without the unit."""
    unit: str
    """"mm", "ml", "%", "voxels", "1" for a fraction or ratio; empty for text, and where a field's name has none."""
    formula: str
    """The definition, on one line."""
    better: Better = ""
    """Which values are better; empty where a column judges nothing."""

    @classmethod
    def of_field(cls, field: str, meaning: str) -> Column:
        """The column of a field whose name ends in its unit: `l_mm` becomes "l (mm)"."""
        *words, suffix = field.split("_")
        unit = _UNITS.get(suffix, "")
        words = words if unit else [*words, suffix]
        return cls(" ".join(_WRITTEN.get(word, word) for word in words), unit, meaning)

    @property
    def decimals(self) -> int:
        """Decimals that people see of a number that is not a count."""
        return 1 if self.unit in ("mm²", "mm³") else 3

    @property
    def is_fraction(self) -> bool:
        """Whether its values lie between 0 and 1: so they do for every metric that is better when higher."""
        return self.better == "higher"

    @property
    def heading(self) -> str:
        """The title with its unit, where it has one: "ASD (mm)"."""
        return self.title if self.unit in ("", "1", "voxels") else f"{self.title} ({self.unit})"


COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        "case": Column("case", "", "the case that the row belongs to"),
        "label": Column("label", "", "the id of the label"),
        "name": Column("name", "", "the name of the label: the reference's, else the prediction's"),
        "voxels_reference": Column("voxels A", "voxels", "|A|: voxels of the label in the reference"),
        "voxels_prediction": Column("voxels B", "voxels", "|B|: voxels of the label in the prediction"),
        "dice": Column("Dice", "1", "2 |A∩B| / (|A| + |B|)", "higher"),
        "iou": Column("IoU", "1", "|A∩B| / |A∪B| (Jaccard)", "higher"),
        "voe": Column("VOE", "1", "volumetric overlap error: 1 - |A∩B| / |A∪B|", "lower"),
        "rvd": Column(
            "RVD", "1", "relative volume difference: (|B| - |A|) / |A|, above 0 is over-segmentation", "zero"
        ),
        "asd_mm": Column(
            "ASD",
            "mm",
            "average symmetric surface distance, pooled: (Σ_a d(a, S(B)) + Σ_b d(b, S(A))) / (|S(A)| + |S(B)|)",
            "lower",
        ),
        "msd_mm": Column(
            "MSD", "mm", "maximum symmetric surface distance (Hausdorff): max of d(a, S(B)) and d(b, S(A))", "lower"
        ),
        "hd95_mm": Column(
            "HD95",
            "mm",
            "the larger of the two directed 95th percentiles of d(a, S(B)) and d(b, S(A)), as MONAI defines it",
            "lower",
        ),
        "nsd": Column(
            "NSD",
            "1",
            "normalised surface Dice: fraction of S(A) and S(B) that lies within the tolerance of the other surface",
            "higher",
        ),
        "sensitivity": Column("sensitivity", "1", "|A∩B| / |A| (recall)", "higher"),
        "specificity": Column(
            "specificity", "1", "voxels in neither / voxels not in A; depends on the size of the image", "higher"
        ),
        "precision": Column("precision", "1", "|A∩B| / |B| (positive predictive value)", "higher"),
        "masd_mm": Column(
            "MASD",
            "mm",
            "mean of the two directed average surface distances: (mean d(a, S(B)) + mean d(b, S(A))) / 2",
            "lower",
        ),
        "hd95_pooled_mm": Column(
            "HD95 pooled",
            "mm",
            "95th percentile of the distances of both directions together, as medpy defines it",
            "lower",
        ),
        "centroid_distance_mm": Column(
            "centroid distance", "mm", "distance between the centres of mass of A and of B", "lower"
        ),
        "volume_reference_ml": Column("volume A", "ml", "|A| times the volume of a voxel"),
        "volume_prediction_ml": Column("volume B", "ml", "|B| times the volume of a voxel"),
        "voxels_both": Column("voxels A∩B", "voxels", "|A∩B|: voxels of the label in both"),
    }
)
"""{field of a Row: its column}, in the order of the table."""

SUMMARIES: Mapping[str, Column] = MappingProxyType(
    {
        "pa": Column(
            "PA", "1", "pixel accuracy: the fraction of all voxels, background included, with the right id", "higher"
        ),
        "miou": Column("mIoU", "1", "mean of the IoU over all classes, background included", "higher"),
    }
)
"""{property of Scores: its meaning}, for the numbers of a whole comparison."""

RULE_TEXTS: Mapping[Preset, str] = MappingProxyType(
    {
        "survey": "surface voxels have one of 6 neighbours outside (in a single slice, one of 4), beyond the image is "
        "outside; empty with empty agrees",
        "lits": "surface voxels have one of 18 neighbours outside (in a single slice, one of 8), beyond the image is "
        "outside; where A or B is empty, Dice and IoU are 0, VOE is 1, RVD and all distances are 9001",
        "chaos": "surface voxels have one of 6 neighbours outside (in a single slice, one of 4), the edge of the image "
        "is no surface; empty with empty agrees",
    }
)
"""{preset: the rules that its columns share}."""

_RVD: Mapping[Preset, Column] = MappingProxyType(
    {
        "lits": replace(COLUMNS["rvd"], formula="relative volume difference as its scorer has it: (|A| - |B|) / |B|"),
        "chaos": replace(
            COLUMNS["rvd"],
            unit="%",
            formula="absolute relative volume difference: 100 ||B| - |A|| / |A|",
            better="lower",
        ),
    }
)


def columns_of(preset: Preset) -> Mapping[str, Column]:
    """`COLUMNS` as the preset defines them."""
    return {**COLUMNS, **({"rvd": _RVD[preset]} if preset in _RVD else {})}
