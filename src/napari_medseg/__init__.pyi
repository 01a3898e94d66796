from ._version import __version__
from .doubt import Suggestion, doubts, iter_doubts, iter_suggest, suggest
from .explanation import check_explanation, explain, iter_explain
from .inference import instances, iter_instances, iter_segment, segment
from .interactive import InteractiveSession, interact, resume_interaction
from .io import read, read_segmentation, write
from .metrics import Scores, evaluate
from .models import Model, ModelSpec, load_model
from .prompts import Box, Lasso, Point, Scribble, SliceMask
from .refinement import (
    clean,
    delete_objects,
    iter_clean,
    iter_propagate,
    iter_refine,
    merge_objects,
    propagate,
    refine,
    split_object,
)
from .registry import NetworkSpec, networks
from .training import iter_train, plan, train
from .volume import Grid, Segmentation, Volume

__all__ = [
    "Box",
    "Grid",
    "InteractiveSession",
    "Lasso",
    "Model",
    "ModelSpec",
    "NetworkSpec",
    "Point",
    "Scores",
    "Scribble",
    "Segmentation",
    "SliceMask",
    "Suggestion",
    "Volume",
    "__version__",
    "check_explanation",
    "clean",
    "delete_objects",
    "doubts",
    "evaluate",
    "explain",
    "instances",
    "interact",
    "iter_clean",
    "iter_doubts",
    "iter_explain",
    "iter_instances",
    "iter_propagate",
    "iter_refine",
    "iter_segment",
    "iter_suggest",
    "iter_train",
    "load_model",
    "merge_objects",
    "networks",
    "plan",
    "propagate",
    "read",
    "read_segmentation",
    "refine",
    "resume_interaction",
    "segment",
    "split_object",
    "suggest",
    "train",
    "write",
]
