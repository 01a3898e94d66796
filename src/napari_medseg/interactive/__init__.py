"""Prompts to masks: `interact`, `resume_interaction` and `propagate` need no network; `correct` has one."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
