"""Layouts of volumes: MSD, nnU-Net raw, BIDS derivatives, ACDC, LiTS, BraTS, Synapse/BTCV and KiTS.

Each function takes a folder and returns the data set, or None where the folder has another layout. What ids mean is
published beside the data, and written down here where the data set itself does not say it.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from napari_medseg.cases import Case, cases_from_folders, with_channels
from napari_medseg.datasets.dataset import DataSet
from napari_medseg.datasets.documents import clean, json_object, label_ids, label_table
from napari_medseg.datasets.label_sources import Named
from napari_medseg.errors import FileError, InputError
from napari_medseg.io import formats
from napari_medseg.io.folders import natural

MOST_FILES = 200_000
"""Most entries of a folder that are looked at."""
_SHOWN = 5
"""Cases left out that a note names."""
_NIFTI = r"\.nii(\.gz)?"
_LABELS = re.compile(r"(^|[_\-.])(seg|segmentation|labels?|masks?|lesions?|gt|manual|truth|annotations?)[_\-.]", re.I)
"""Names of files that hold labels."""
_ENTITY = re.compile(r"(?:^|_)([a-z]+)-([A-Za-z0-9]+)")
"""A part of a BIDS name, such as ses-2."""
_TIME_POINT = re.compile(r"(BraTS-\w+-\d+)-\d+")
"""The name of a BraTS case since 2023: that of the patient, and the number of the time point."""
_ACDC = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
_LITS = {1: "liver", 2: "liver tumour"}
_KITS = {1: "kidney", 2: "tumour", 3: "cyst"}
_BRATS = {1: "necrotic core", 2: "oedema", 3: "enhancing tumour"}
_BTCV = dict(
    enumerate(
        (
            "spleen",
            "right kidney",
            "left kidney",
            "gallbladder",
            "oesophagus",
            "liver",
            "stomach",
            "aorta",
            "inferior vena cava",
            "portal and splenic veins",
            "pancreas",
            "right adrenal gland",
            "left adrenal gland",
        ),
        start=1,
    )
)
_BRATS_CHANNELS = (("flair", "t1", "t1ce", "t2"), ("t1c", "t1n", "t2f", "t2w"))
"""The names before 2023, and those since."""


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, in natural order; hidden files are passed over. Raises FileError."""
    try:
        found = [path for path in islice(folder.iterdir(), MOST_FILES) if not path.name.startswith(".")]
    except OSError as error:
        raise FileError(f"{folder}: cannot be read: {error.strerror or error}") from error
    return sorted(found, key=lambda path: natural(path.name))


def with_dataset_json(folder: Path) -> DataSet | None:
    """MSD and nnU-Net raw: dataset.json beside imagesTr and labelsTr. Files are found by their names, not by lists."""
    path = folder / "dataset.json"
    if not (path.is_file() and (folder / "imagesTr").is_dir() and (folder / "labelsTr").is_dir()):
        return None
    document = json_object(path)
    is_msd = "channel_names" not in document and "modality" in document
    channels = document.get("channel_names", document.get("modality", {}))
    if not isinstance(channels, Mapping):
        raise FileError(f"{path}: channel_names must be an object such as {{'0': 'T1'}}")
    names = tuple(clean(channels[key]) for key in sorted(channels, key=natural))
    labels, merge, ignored, notes = _meaning(path, document.get("labels", {}))
    cases = tuple(
        Case(name=case.name, images=case.images, labels=Named(case.labels, labels), channels=names)
        for case in cases_from_folders([folder / "imagesTr"], folder / "labelsTr")
        if isinstance(case.labels, Path)
    )
    layout = "Medical Segmentation Decathlon" if is_msd else "nnU-Net raw"
    return DataSet(
        layout=layout,
        folder=folder,
        cases=cases,
        labels=labels,
        merge=merge,
        ignore_label=ignored,
        notes=notes,
    )


def _meaning(
    path: Path, labels: object
) -> tuple[dict[int, str], tuple[tuple[str, tuple[int, ...]], ...], int | None, tuple[str, ...]]:
    """The names of ids, the regions that share none, the ignored id, and notes, of a dataset.json."""
    ids = label_ids(path, labels)
    ignored = ids.pop("ignore", None)
    regions = {name: found for name, found in ids.items() if len(found) > 1}
    together = [i for found in regions.values() for i in found]
    names = {found[0]: name for name, found in ids.items() if len(found) == 1}
    single = ignored[0] if ignored else None
    if not regions:
        return names, (), single, ()
    if len(set(together)) == len(together) and not names.keys() & set(together):
        return names, tuple((name, found) for name, found in regions.items()), single, ()
    # Regions inside each other: their parts are learned, each named by the smallest region that it is in.
    for i in sorted(set(together) - names.keys()):
        smallest = min((name for name, found in regions.items() if i in found), key=lambda name: len(regions[name]))
        names[i] = clean(f"{smallest}, part {i}")
    note = f"the regions {', '.join(regions)} lie inside each other: their parts are learned as labels of their own"
    return names, (), single, (note,)


def bids(folder: Path) -> DataSet | None:
    """BIDS derivatives: sub-*/.../*_dseg.nii.gz below derivatives/, and the raw images of the same subject.

    Raises InputError where several derivatives hold labels: they need not mean the same.
    """
    root = next((f for f in (folder, *list(folder.parents)[:2]) if list(islice(f.glob("sub-*"), 1))), None)
    if root is None:
        return None
    within = folder / "derivatives" if (folder / "derivatives").is_dir() else folder
    masks = [path for path in islice(within.rglob("sub-*_dseg.nii*"), MOST_FILES) if path.is_file()]
    raw = root.parent.parent if root.parent.name == "derivatives" else root
    found, origins = {}, set()
    for mask in sorted(masks, key=lambda path: natural(path.name)):
        place = next((p for p in mask.parents if p.name.startswith("sub-")), None)
        images = {} if place is None else _bids_images(raw / mask.parent.relative_to(place.parent), mask.name)
        if place is not None and images:
            found[mask] = images
            origins.add(place.parent)
    if len(origins) > 1:
        names = ", ".join(sorted(str(origin.relative_to(folder)) for origin in origins))
        raise InputError(f"{folder}: several derivatives hold labels ({names}): name one of them")
    if not found:
        return None
    usual, _ = collections.Counter(suffix for images in found.values() for suffix in images).most_common(1)[0]
    found = {mask: images for mask, images in found.items() if usual in images}
    suffixes = set.intersection(*map(set, found.values()))
    channels = tuple(sorted(suffixes, key=natural))
    names_of_ids = _bids_names(next(iter(found)), within)
    cases = tuple(
        Case(
            name=formats.strip_suffix(mask).removesuffix("_dseg"),
            images=tuple(images[suffix] for suffix in channels),
            labels=Named(mask, names_of_ids),
            channels=channels if len(channels) > 1 else (),
            group=mask.name.partition("_")[0],
        )
        for mask, images in found.items()
    )
    notes = _bids_notes(found.values(), suffixes, len(masks))
    return DataSet(layout="BIDS derivatives", folder=folder, cases=cases, labels=names_of_ids, notes=notes)


def _bids_notes(found: Collection[Mapping[str, Path]], suffixes: set[str], masks: int) -> tuple[str, ...]:
    """What is left out. found: the images of each mask. suffixes: those that all masks have."""
    partial = set[str]().union(*found) - suffixes
    notes = []
    if len(found) < masks:
        notes.append(f"{masks - len(found)} label files have no image of their own: they are left out")
    if partial:
        notes.append(
            f"images {', '.join(sorted(partial, key=natural))} are not there for all labels: they are left out"
        )
    return tuple(notes)


def _bids_images(folder: Path, mask: str) -> dict[str, Path]:
    """{suffix such as T1w: image} of the subject, session and run of a mask; none where several may be meant."""
    if not folder.is_dir():
        return {}
    wanted = dict(_ENTITY.findall(mask))
    pattern = re.compile(rf"sub-[A-Za-z0-9]+(_[a-z]+-[A-Za-z0-9]+)*_([A-Za-z0-9]+){_NIFTI}")
    by_suffix: dict[str, list[tuple[int, Path]]] = {}
    for path in entries(folder):
        match, own = pattern.fullmatch(path.name), dict(_ENTITY.findall(path.name))
        if match and match[2] not in ("dseg", "probseg", "mask") and _agree(own, wanted):
            by_suffix.setdefault(match[2], []).append((len(own.keys() - wanted.keys()), path))
    nearest = {suffix: min(count for count, _ in paths) for suffix, paths in by_suffix.items()}
    fitting = {suffix: [p for count, p in paths if count == nearest[suffix]] for suffix, paths in by_suffix.items()}
    return {suffix: paths[0] for suffix, paths in fitting.items() if len(paths) == 1}


def _agree(image: Mapping[str, str], mask: Mapping[str, str]) -> bool:
    """Whether an image may be that of a mask, by the entities of their names: the session is the same, if any."""
    shared = image.keys() & mask.keys()
    return image.get("ses") == mask.get("ses") and all(image[name] == mask[name] for name in shared)


def _bids_names(mask: Path, within: Path) -> dict[int, str]:
    own = mask.with_name(f"{formats.strip_suffix(mask)}.tsv")
    tables = [own, *sorted(within.glob("*dseg.tsv")), *sorted(within.glob("*/*dseg.tsv"))]
    table = next((path for path in tables if path.is_file()), None)
    return label_table(table) if table is not None else {}


def acdc(folder: Path) -> DataSet | None:
    """ACDC: patient*/patient*_frame*.nii.gz beside ..._gt.nii.gz; the two annotated phases are cases of one group."""
    pairs = _in_folders(folder, rf"(patient\d+_frame\d+)_gt{_NIFTI}", "{}")
    found = _paired(folder, "ACDC", pairs, _ACDC)
    if found is None:
        return None
    return replace(found, cases=tuple(replace(case, group=case.name.partition("_")[0]) for case in found.cases))


def lits(folder: Path) -> DataSet | None:
    """LiTS: volume-N.nii beside segmentation-N.nii, or in two folders side by side."""
    files = [path for place in (folder, *filter(Path.is_dir, entries(folder))) for path in _files(place)]
    found = [(re.fullmatch(rf"(volume|segmentation)-(\d+){_NIFTI}", path.name), path) for path in files]
    by_kind: dict[str, dict[str, Path]] = {"volume": {}, "segmentation": {}}
    for match, path in found:
        if match:
            by_kind[match[1]][match[2]] = path
    numbers = sorted(by_kind["volume"].keys() & by_kind["segmentation"].keys(), key=natural)
    pairs = {f"volume-{n}": (by_kind["volume"][n], by_kind["segmentation"][n]) for n in numbers}
    alone = sorted(by_kind["volume"].keys() ^ by_kind["segmentation"].keys(), key=natural)
    return _paired(folder, "LiTS", pairs, _LITS, _left_out(alone))


def brats(folder: Path) -> DataSet | None:
    """BraTS: a folder for each case with four images and ..._seg.nii.gz (or -seg.nii.gz, since 2023).

    Since 2023 the last number of a name is the time point, and those of a patient are cases of one group.
    """
    cases, lacking = [], []
    names: dict[int, str] = {}
    for place in filter(Path.is_dir, entries(folder)):
        files = {formats.strip_suffix(path): path for path in _files(place) if re.search(f"{_NIFTI}$", path.name)}
        for mark, channels in zip("_-", _BRATS_CHANNELS, strict=True):
            images = [files.get(f"{place.name}{mark}{channel}") for channel in channels]
            labels = files.get(f"{place.name}{mark}seg")
            given = tuple(path for path in images if path is not None)
            if labels is not None and len(given) == len(channels):
                of_case = _brats_names(place.name, mark)
                names |= of_case
                named = Named(labels, of_case)
                of_patient = _TIME_POINT.fullmatch(place.name)
                group = of_patient[1] if of_patient else ""
                cases.append(Case(name=place.name, images=given, labels=named, channels=channels, group=group))
            elif given or labels is not None:
                lacking.append(place.name)
    note = "enhancing tumour has the id 4 in the sets before 2023, and 3 since; 4 is a resection cavity since 2024"
    return _with_cases(folder, "BraTS", cases, names, (note, *_left_out(lacking)))


def _brats_names(case: str, mark: str) -> dict[int, str]:
    """The names of a case's ids. Those of children (PED) mean other things in each year, and have none here."""
    if mark == "_":
        return {**_BRATS, 4: "enhancing tumour"}
    if "-PED-" in case:
        return {}
    return {**_BRATS, 4: "resection cavity"} if "-GLI-" in case else _BRATS


def btcv(folder: Path) -> DataSet | None:
    """Synapse/BTCV: img/imgNNNN.nii.gz and label/labelNNNN.nii.gz."""
    images, labels = ({p.name: p for p in _files(folder / place)} for place in ("img", "label"))
    pairs = {}
    for name, path in images.items():
        match = re.fullmatch(rf"img(\d+{_NIFTI})", name)
        if match and f"label{match[1]}" in labels:
            pairs[formats.strip_suffix(path)] = (path, labels[f"label{match[1]}"])
    return _paired(folder, "Synapse (BTCV)", pairs, _BTCV)


def kits(folder: Path) -> DataSet | None:
    """KiTS: case_NNNNN/imaging.nii.gz beside segmentation.nii.gz (2021: aggregated_MAJ_seg.nii.gz)."""
    cases, lacking = [], []
    for place in filter(Path.is_dir, entries(folder)):
        image = place / "imaging.nii.gz"
        masks = (place / "segmentation.nii.gz", place / "aggregated_MAJ_seg.nii.gz")
        labels = next(filter(Path.is_file, masks), None)
        if not re.fullmatch(r"case_\d+", place.name):
            continue
        if image.is_file() and labels is not None:
            cases.append(Case(name=place.name, images=(image,), labels=Named(labels, _KITS)))
        else:
            lacking.append(place.name)
    return _with_cases(folder, "KiTS", cases, _KITS, _left_out(lacking))


def folders_of_cases(folder: Path) -> DataSet | None:
    """A folder for each case, with files of the same names in all of them, one of which is called as labels are."""
    places = {place: {p.name: p for p in _files(place)} for place in filter(Path.is_dir, entries(folder))}
    files = {place: {n: p for n, p in found.items() if re.search(f"{_NIFTI}$", n)} for place, found in places.items()}
    files = {place: found for place, found in files.items() if found}
    common = set.intersection(*(set(found) for found in files.values())) if files else set()
    labels = [name for name in common if _LABELS.search(name)]
    images = sorted(common - set(labels), key=natural)
    if len(labels) != 1 or not images:
        return None
    names = tuple(formats.strip_suffix(name) for name in images)
    cases = [
        Case(
            name=place.name,
            images=tuple(found[name] for name in images),
            labels=found[labels[0]],
            channels=names if len(names) > 1 else (),
        )
        for place, found in files.items()
    ]
    partial = sorted(set[str]().union(*files.values()) - common, key=natural)
    notes = (f"files that are not in every folder are left out: {', '.join(partial[:_SHOWN])}",) if partial else ()
    return _with_cases(folder, f"a folder for each case, labels in {labels[0]}", cases, {}, notes)


def _in_folders(folder: Path, labels: str, image: str) -> dict[str, tuple[Path, Path]]:
    """{name: (image, labels)} of the folders in a folder. labels: a pattern whose first group is the name."""
    pairs = {}
    for place in filter(Path.is_dir, entries(folder)):
        for path in _files(place):
            match = re.fullmatch(labels, path.name)
            beside = None if match is None else next(_with_suffix(place / image.format(match[1])), None)
            if match is not None and beside is not None:
                pairs[match[1]] = (beside, path)
    return pairs


def _with_suffix(path: Path) -> Iterator[Path]:
    return (p for p in (path.with_name(f"{path.name}.nii.gz"), path.with_name(f"{path.name}.nii")) if p.is_file())


def _files(folder: Path) -> list[Path]:
    return [path for path in entries(folder) if path.is_file()] if folder.is_dir() else []


def _paired(
    folder: Path,
    layout: str,
    pairs: Mapping[str, tuple[Path, Path]],
    names: Mapping[int, str],
    notes: tuple[str, ...] = (),
) -> DataSet | None:
    cases = [
        Case(name=name, images=with_channels([image]), labels=Named(labels, names))
        for name, (image, labels) in pairs.items()
    ]
    return _with_cases(folder, layout, cases, names, notes)


def _left_out(names: Sequence[str]) -> tuple[str, ...]:
    """The note on cases that lack an image or their labels, as those of a test do; none without any."""
    if not names:
        return ()
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (f"left out, for lack of an image or of labels: {', '.join(names[:_SHOWN])}{more}",)


def _with_cases(
    folder: Path, layout: str, cases: list[Case], names: Mapping[int, str], notes: tuple[str, ...] = ()
) -> DataSet | None:
    if not cases:
        return None
    return DataSet(layout=layout, folder=folder, cases=tuple(cases), labels=names, notes=notes)
