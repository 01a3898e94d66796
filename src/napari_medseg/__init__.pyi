from ._version import __version__
from .inference import iter_segment, segment
from .io import read, read_segmentation, write
from .metrics import Scores, evaluate
from .models import Model, ModelSpec, load_model
from .registry import NetworkSpec, networks
from .training import iter_train, train
from .volume import Grid, Segmentation, Volume

__all__ = [
    "Grid",
    "Model",
    "ModelSpec",
    "NetworkSpec",
    "Scores",
    "Segmentation",
    "Volume",
    "__version__",
    "evaluate",
    "iter_segment",
    "iter_train",
    "load_model",
    "networks",
    "read",
    "read_segmentation",
    "segment",
    "train",
    "write",
]
