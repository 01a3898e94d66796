from .guided.deepigeos import correct
from .learning.pixel_classifier import PixelClassifier, PixelLearner, iter_classify
from .learning.said import said
from .propagation import propagate
from .session import InteractiveSession, interact, resume_interaction

__all__ = [
    "InteractiveSession",
    "PixelClassifier",
    "PixelLearner",
    "correct",
    "interact",
    "iter_classify",
    "propagate",
    "resume_interaction",
    "said",
]
