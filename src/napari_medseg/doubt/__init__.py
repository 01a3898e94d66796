"""What a model does not know: where it doubts, how far it can be believed, and what to annotate next."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
