"""nnU-Net's trainers that leave the architecture to the plans: their names are made of known words.

They change losses, augmentation, the optimiser, the schedule or the length of a training, and nothing of the network.
"""

from __future__ import annotations

import re

_WORDS = (
    *(r"\d+(epochs?|ep)", "NoMirroring", "onlyMirror01", "DA5", "DA5ord0", "DA5Segord0", "DAOrd0", "DASegOrd0"),
    *("NoDA", "noDummy2DDA", "fasterDA", r"probabilisticOversampling(_0\d+)?", "betterIgnoreSampling", "fixCEAggr"),
    *("ignoreLabel_lossBalancing", "CELoss", "DiceLoss", "DiceCELoss_noSmooth", r"Top[kK]\d*Loss(LS01)?"),
    *(r"DiceTop[kK]\d*Loss", "FocalLoss", "FLandCELoss", "DiceUseClip", "clDice", "memEffCEDice", "switchToDice"),
    *("RMILoss", "DistDiceLoss", r"(Vanilla)?Adam(W)?(\d+en\d+)?", r"Adan(\d+en\d+)?", "CosAnneal", "warmup"),
    *(r"warmup(_\w+)?", r"warmupsegheads", "pinbuffer_asynccopy", "noDataLoading", "noIO", "NoDeepSupervision"),
    *("lr1en4", "LS01", "lite"),
)
_NAME = re.compile(rf"nnUNetTrainer(V2)?(Benchmark)?(_?BN)?(_?({'|'.join(_WORDS)}))*")
_BATCH_NORM = re.compile(r"nnUNetTrainer(V2)?_?BN(?![a-z])")


def keeps_architecture(trainer: str) -> bool:
    """Whether a trainer of that name builds the network that the plans describe."""
    return len(trainer) < 200 and _NAME.fullmatch(trainer) is not None


def has_batch_norm(trainer: str) -> bool:
    """Whether a trainer of that name puts batch norm in place of the plans' instance norm."""
    return _BATCH_NORM.match(trainer) is not None


def mirrors(trainer: str, dims: int) -> tuple[int, ...]:
    """The axes along which a trainer of that name mirrors; the checkpoint says so itself in newer versions."""
    if "NoMirroring" in trainer or "NoDA" in trainer:
        return ()
    axes = (0, 1) if "onlyMirror01" in trainer else tuple(range(dims))
    return tuple(axis + 3 - dims for axis in axes)
