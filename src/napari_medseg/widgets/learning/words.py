"""What users read for the knobs of a training."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from napari_medseg.widgets.fields.config_form import Words

WORDS: Mapping[str, Words] = MappingProxyType(
    {
        "mode": Words(
            "Dimensions",
            {
                "auto": "automatic",
                "3d": "3D",
                "2d": "2D, slice by slice",
                "2.5d": "2.5D, adjacent slices",
                "triplanar": "2D in three planes",
            },
        ),
        "cascade": Words(
            "Stages",
            {
                "none": "one network",
                "coarse-to-fine": "coarse to fine: two networks",
                "detect": "find, then segment: two networks",
            },
        ),
        "unlabelled_slices": Words("Empty slices", {"background": "background", "ignore": "not annotated (ignored)"}),
        "val": Words("Validation fraction"),
        "adapt": Words(
            "Weights that learn",
            {"all": "all", "decoder": "those behind the encoder", "low-rank": "small adapters beside them"},
        ),
        "rank": Words("Rank of adapters"),
        "device": Words("Device", {"auto": "automatic", "cpu": "CPU", "cuda": "GPU (CUDA)", "mps": "GPU (Apple)"}),
        "batch_size": Words("Patches in a step"),
        "patch_zyx": Words("Patch (z, y, x)"),
        "spacing_zyx_mm": Words("Spacing in mm (z, y, x)"),
        "slices": Words("Slices of 2.5D"),
        "foreground": Words("Patches on labels"),
        "hard_patches": Words("Patches on mistakes"),
        "search": Words("Search, in minutes"),
        "search_network": Words("Search for", {"plan": "plans of the network", "dints": "a network too (DiNTS)"}),
        "ema": Words("Average of weights"),
        "augment": Words("Augmentation"),
        "mirror": Words("Mirroring", {"auto": "where no label is sided", "none": "none", "all": "all axes"}),
        "unlabelled_weight": Words("Weight without labels"),
        "confidence": Words("Least confidence"),
        "rounds": Words("Rounds of labelling"),
        "doubt_passes": Words("Teacher passes"),
        "critic_width": Words("Discriminator width"),
        "descent": Words("Descent", {"auto": "automatic", "adamw": "AdamW", "sgd": "SGD, as published"}),
        "fusion": Words(
            "Channels meet",
            {
                "input": "in the first convolution",
                "layer": "at every skip: an encoder each",
                "decision": "in the labels: a network each",
            },
        ),
        "modality_dropout": Words("Missing channels"),
        "translator": Words("Translator", {"auto": "automatic", "light": "light", "paper": "as published, for a GPU"}),
        "precision": Words("Precision", {"auto": "automatic", "fp32": "fp32, exact", "bf16": "bf16, faster"}),
    }
)
"""{knob: what users read for it}."""
