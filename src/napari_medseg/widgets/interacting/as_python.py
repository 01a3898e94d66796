"""What a session did, as a script that names public faces only."""

from __future__ import annotations

from collections.abc import Iterable

from napari_medseg.prompts import Prompt, SliceMask


def session_script(path: str, log: str, prompts: Iterable[Prompt]) -> str:
    """The script that does the session again from its log; what it was told is listed in comments."""
    told = "\n".join(f"#   {_told(prompt)}" for prompt in prompts)
    return (
        "import napari_medseg as ms\n\n"
        f"volume = ms.read({path!r})\n"
        f"session = ms.resume_interaction({log!r}, volume)\n"
        f"# It was told:\n{told}\n"
        'ms.write("labels.nii.gz", session.segmentation)\n'
    )


def _told(prompt: Prompt) -> str:
    sign = "here" if prompt.positive else "not here"
    what = type(prompt).__name__
    if isinstance(prompt, SliceMask):
        return f"label {prompt.label}, {sign}: {what} of slice {prompt.index} along axis {prompt.axis}"
    at = getattr(prompt, "at", None)
    return f"label {prompt.label}, {sign}: {what}" + (f" {at}" if at else "")
