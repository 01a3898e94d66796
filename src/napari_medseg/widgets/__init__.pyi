from .canvas.layers import to_segmentation, to_volume

__all__ = ["to_segmentation", "to_volume"]
