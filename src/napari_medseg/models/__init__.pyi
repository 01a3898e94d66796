from .adapters import with_adapter
from .file import Model, load_model
from .prune import prune_model
from .spec import ModelSpec, Stage, TrainingRecord

__all__ = [
    "Model",
    "ModelSpec",
    "Stage",
    "TrainingRecord",
    "load_model",
    "prune_model",
    "with_adapter",
]
