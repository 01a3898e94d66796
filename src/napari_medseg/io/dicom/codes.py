"""A label's name and colour in DICOM: SNOMED CT codes for common names, a generic code for others."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence

from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from napari_medseg.volume import Colour

_ANATOMY = (
    "AdrenalGland Amygdala Aorta Bladder Bone Brain Breast Cerebellum CerebrospinalFluid Colon Duodenum Esophagus "
    "Femur Gallbladder GrayMatter Heart Hippocampus InferiorVenaCava Kidney Liver Lung Muscle Pancreas Pelvis "
    "PortalVein Prostate Rectum Rib Sacrum Skin SmallIntestine SpinalCord Spine Spleen Stomach Thalamus Thyroid "
    "Trachea Uterus Vertebra WhiteMatter"
)
"""The keywords of pydicom's table of SNOMED CT in which names are looked up."""
_ABNORMAL = "Cyst Edema Lesion Mass Necrosis Neoplasm Nodule"
_ALIASES = {
    "gall bladder": "gallbladder",
    "grey matter": "graymatter",
    "oedema": "edema",
    "oesophagus": "esophagus",
    "tumor": "neoplasm",
    "tumour": "neoplasm",
    "urinary bladder": "bladder",
    "vena cava inferior": "inferiorvenacava",
}
_SIDES = {"left": codes.SCT.Left, "right": codes.SCT.Right}
_MAX_LABEL_LENGTH = 64
"""Characters of the longest label that DICOM holds (value representation LO)."""
_HUE_STEP = 0.618034
"""The golden ratio as the step of the hue: neighbours differ, and a label has the same colour in every file."""


def description(number: int, name: str, colour: Colour | None, provenance: Mapping[str, object]) -> SegmentDescription:
    """The segment of a label. A model made it if the provenance says so, else a person."""
    category, kind, side = coded(name)
    model = str(provenance.get("model_sha256", ""))
    segment = SegmentDescription(
        number,
        " ".join(name.replace("\\", "/").split())[:_MAX_LABEL_LENGTH],
        category,
        kind,
        SegmentAlgorithmTypeValues.AUTOMATIC if model else SegmentAlgorithmTypeValues.MANUAL,
        _algorithm(model, provenance) if model else None,
        display_color=CIELabColor.from_rgb(*(colour or own_colour(number))),
    )
    if side is not None:
        (item,) = segment.SegmentedPropertyTypeCodeSequence
        item.SegmentedPropertyTypeModifierCodeSequence = [CodedConcept.from_code(side)]
    return segment


def coded(name: str) -> tuple[Code, Code, Code | None]:
    """(category, type, laterality) of a label's name in any case and spelling: "Left_kidney", "kidney left", "liver".

    Names outside the table are Tissue.
    """
    words = name.lower().replace("_", " ").replace("-", " ").split()
    side = next((_SIDES[word] for word in words if word in _SIDES), None)
    plain = " ".join(word for word in words if word not in _SIDES)
    keyword = _ALIASES.get(plain, plain.replace(" ", ""))
    for table, category in (
        (_ANATOMY, codes.SCT.AnatomicalStructure),
        (_ABNORMAL, codes.SCT.MorphologicallyAbnormalStructure),
    ):
        for known in table.split():
            if keyword in (known.lower(), known.lower() + "s"):
                return category, getattr(codes.SCT, known), side
    return codes.SCT.Tissue, codes.SCT.Tissue, None


def own_colour(number: int) -> Colour:
    """A bright colour for a label that has none."""
    red, green, blue = colorsys.hsv_to_rgb(number * _HUE_STEP % 1, 0.65, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def colour_of(cielab: Sequence[int]) -> Colour | None:
    """DICOM's three numbers from 0 to 65535 as red, green, blue; None for a colour that no screen shows."""
    try:
        red, green, blue = CIELabColor.from_dicom_value(cielab).to_rgb()
    except ValueError:
        return None
    return round(red), round(green), round(blue)


def _algorithm(model_sha256: str, provenance: Mapping[str, object]) -> AlgorithmIdentificationSequence:
    return AlgorithmIdentificationSequence(
        name=f"napari-medseg {provenance.get('network', '')}".strip()[:_MAX_LABEL_LENGTH],
        family=codes.DCM.ArtificialIntelligence,
        version=model_sha256[:_MAX_LABEL_LENGTH],
        source="napari-medseg",
    )
