"""Work for a child process under test: it does whatever a parser might that went wrong."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from attempts import outcomes
from napari_medseg.errors import FileError, NotSupportedError
from napari_medseg.io.sandbox.parent import Child, Limits


def prepare() -> None:
    """Nothing to load."""


def answer(request: Mapping[str, Any]) -> tuple[dict[str, object], list[Any]]:
    match request["do"]:
        case "arrays":
            return {"pid": os.getpid()}, [np.arange(6, dtype=">i2").reshape(2, 3), np.ones((0, 3), np.float32)]
        case "print":
            print("a library that talks", flush=True)  # noqa: T201
            os.write(1, b"and one that is written in C")
        case "refuse":
            raise FileError("the voxels are purple")
        case "not supported":
            raise NotSupportedError("purple is not read")
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            time.sleep(600)
        case "wait":
            time.sleep(request["seconds"])
        case "spin":
            while True:
                pass
        case "swell":
            return {}, [np.ones(request["bytes"], np.uint8)]
        case "write":
            Path(request["path"]).write_bytes(b"x" * 100)
        case "attempt":
            return {"outcomes": outcomes(Path(request["path"]))}, []
        case "ask":
            Child("sandbox_job").ask("inner.nrrd", {"do": "arrays"}, Limits(1 << 20, 1, 1 << 10))
        case "objects":
            return {}, [np.array(["a", "b"])]
    return {"pid": os.getpid()}, []
