"""Whether this process is our own: a command's, a worker's or a training's, and not napari's or that of a script.

What holds for a whole process, such as its threads and how it keeps memory, is set in our own ones only.
"""

from __future__ import annotations

from napari_medseg.io.disk.memory import keep_freed

_begun: list[str] = []


def begin_own_process() -> None:
    """Take this process for our own, before it starts threads."""
    keep_freed()
    _begun.append("own")


def is_own_process() -> bool:
    """Whether it is."""
    return bool(_begun)
