"""What the user should know of the labels of the cases before a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from napari_medseg.training.planning.facts import (
    CaseFacts,
)
from napari_medseg.volume import called, is_named, same_name


def label_doubts(
    training: Sequence[CaseFacts], validation: Sequence[CaseFacts], labels: Mapping[int, str]
) -> list[str]:
    """What the user should know of the labels: which no case trains, ids of several names, names of several ids."""
    doubts = []
    trained = {i for f in training for i in f.label_names}
    for i in sorted({i for f in validation for i in f.label_names} - trained):
        where = ", ".join(f.name for f in validation if i in f.label_names)
        doubts.append(
            f"label {called(i, labels)} is only in cases that validate ({where}): nothing trains it; move such a case "
            f"before the last ones in name order, or lower val"
        )
    unseen = [called(i, labels) for i in labels if i in trained and not any(i in f.label_names for f in validation)]
    if validation and unseen:
        doubts.append(
            f"no case that validates holds {', '.join(unseen)}: each counts 1 for it unless it is found there, which "
            f"raises the mean Dice"
        )
    nowhere = [called(i, labels) for i in labels if not any(i in f.label_names for f in (*training, *validation))]
    if nowhere:
        doubts.append(f"no case holds {', '.join(nowhere)}: what cases show of them is learned as background")
    for i, name in labels.items():
        others = [f for f in (*training, *validation) if is_named(i, f.label_names.get(i, name))]
        other = next((f for f in others if not same_name(f.label_names.get(i, name), name)), None)
        if other is not None:
            doubts.append(
                f"label {i} is {name} in some cases and {other.label_names[i]} in {other.name}: taken as {name}"
            )
    alike = [[i for i, other in labels.items() if same_name(name, other)] for name in labels.values()]
    for ids in dict.fromkeys(tuple(each) for each in alike if len(each) > 1):
        doubts.append(
            f"labels {', '.join(called(i, labels) for i in ids)} have names that mean the same: they are learned as "
            f"{len(ids)} structures; if they are one, take them for one region"
        )
    return doubts
