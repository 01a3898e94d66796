"""Model files of other programs where a model of ours is wanted."""

from __future__ import annotations

from pathlib import Path

from napari_medseg.errors import NotSupportedError


def refuse_foreign_model(path: Path) -> None:
    """Raise MedsegError for a model file of another program: what is wrong with it, else how it is converted."""
    from napari_medseg.foreign import CHECKPOINTS, is_foreign, refuse_kind
    from napari_medseg.foreign.checkpoint import check_checkpoint

    if not is_foreign(path):
        return
    refuse_kind(path)
    if path.suffix.lower() in CHECKPOINTS:
        check_checkpoint(path)
    raise NotSupportedError(
        f"{path}: weights or a model of another program without a ModelSpec: if it is one that can be taken, "
        f"`napari-medseg convert {path.name} -o model.safetensors` makes a model file of it"
    )
