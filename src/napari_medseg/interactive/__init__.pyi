from .guided.deepigeos import correct
from .propagation import propagate
from .session import InteractiveSession, interact, resume_interaction

__all__ = ["InteractiveSession", "correct", "interact", "propagate", "resume_interaction"]
