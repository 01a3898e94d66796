"""Files of other programs that a later version will take; until then each is refused in one line."""

from __future__ import annotations

from pathlib import Path

from napari_medseg.errors import NotSupportedError

MODEL_SUFFIXES = (".pt", ".pth", ".ckpt", ".zip")


def refuse_foreign_model(path: Path) -> None:
    """NotSupportedError for a model file of another program."""
    if path.suffix.lower() in MODEL_SUFFIXES:
        raise NotSupportedError(
            f"{path}: model files of other programs ({', '.join(MODEL_SUFFIXES)}) are not supported yet: "
            f"give a .safetensors model written by napari-medseg"
        )
