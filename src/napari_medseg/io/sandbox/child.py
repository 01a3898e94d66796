"""The child process of `napari_medseg.io.sandbox.parent`: ``python -m napari_medseg.io.sandbox.child MODULE``.

It loads its libraries, gives up its rights, says that it is ready, and answers one request per line until its input
ends. A refusal is an answer. Any other fault ends the process, and the parent starts another.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np

from napari_medseg.errors import FileError, NotSupportedError
from napari_medseg.io.sandbox.confine import confine
from napari_medseg.io.sandbox.parent import IN_CHILD


def main() -> None:
    os.environ[IN_CHILD] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when this process ends
    answers = _own_output()
    job: Any = importlib.import_module(sys.argv[1])
    job.prepare()
    confine()
    _send(answers, {"ready": True}, ())
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _limit(int(request["memory_bytes"]), float(request["seconds"]))
        try:
            facts, arrays = job.answer(request)
        except (FileError, NotSupportedError) as error:
            _send(answers, {"refused": type(error).__name__, "reason": str(error)}, ())
        except MemoryError:
            _send(answers, {"refused": "FileError", "reason": "cannot be read: it takes more memory than its size"}, ())
        else:
            kinds = [{"dtype": np.dtype(a.dtype).str, "shape": a.shape} for a in arrays]
            _send(answers, {"facts": facts, "arrays": kinds}, tuple(arrays))


def _own_output() -> IO[bytes]:
    """The pipe to the parent, where no library prints: their standard output leads nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    return answers


def _send(answers: IO[bytes], content: dict[str, object], arrays: tuple[Any, ...]) -> None:
    answers.write(json.dumps(content).encode() + b"\n")
    for array in arrays:
        answers.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    answers.flush()


def _limit(memory_bytes: int, seconds: float) -> None:
    """Limit the memory and the processor time of the next request, beyond what the process has used so far."""
    if sys.platform == "win32":
        return
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + seconds) + 1, most))
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory_bytes, most))


if __name__ == "__main__":
    main()
