from .propagation import propagate
from .session import InteractiveSession, interact, resume_interaction

__all__ = ["InteractiveSession", "interact", "propagate", "resume_interaction"]
