"""Model files of other programs, taken over safely: state dicts, MONAI bundles, nnU-Net v2 folders."""

from napari_medseg.foreign.convert import convert_model, holds_no_model, is_foreign, refuse_foreign_model

__all__ = ["convert_model", "holds_no_model", "is_foreign", "refuse_foreign_model"]
