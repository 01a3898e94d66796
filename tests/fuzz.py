"""Fuzzing the readers with mutations of valid files, many more than the tests have time for.

    PYTHONPATH=src python tests/fuzz.py --reader nifti zarr --count 10000 --seed 1

Each case is read or refused by a MedsegError of one line that names the file. Anything else is a finding: another
exception or warning, a case that takes more processor time than --seconds, memory that grows by more than --mib, a
crash. A case is told by its reader, seed and number, which make it again: --first NUMBER --count 1. Cases run in worker
processes, a thousand in each, so that a crash costs no more than itself. Ends with status 1 where there were findings.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "helpers"))
from fuzz_targets import TARGETS, run_case

PER_WORKER = 1000
#: cases after which the watch for what no signal ends, a loop in C, begins anew
_WATCHED = 50


class TooSlow(BaseException):
    """Not an Exception: no reader may take it for damage."""


@dataclass
class Tally:
    """What became of the cases of one worker."""

    read: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    grown_mib: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", nargs="+", default=list(TARGETS), choices=TARGETS, metavar="READER")
    parser.add_argument("--count", type=int, default=1000, help="cases for each reader")
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0, help="of processor time that a case may take")
    parser.add_argument("--mib", type=int, default=512, help="that a case may add to the memory of this process")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args)
        return 0
    findings = sum(fuzz(reader, args) for reader in args.reader)
    return int(findings > 0)


def fuzz(reader: str, args: argparse.Namespace) -> int:
    """All cases of a reader; the number of different findings, which are printed."""
    began, total, findings = time.monotonic(), Tally(), Counter[str]()
    first, end = args.first, args.first + args.count
    while first < end:
        tally, found, after = chunk(reader, first, min(PER_WORKER, end - first), args)
        for case, what in found:
            if what not in findings:
                print(f"FOUND {reader} --seed {args.seed} --first {case} --count 1: {what}", flush=True)
            findings[what] += 1
        total = Tally(
            total.read + tally.read,
            total.refused + tally.refused,
            max(total.slowest_s, tally.slowest_s),
            max(total.grown_mib, tally.grown_mib),
        )
        first = after
    print(
        f"{reader}: {args.count} cases, {total.read} read, {total.refused} refused, {sum(findings.values())} findings "
        f"({len(findings)} different); slowest {total.slowest_s:.2f} s, grown by {total.grown_mib:.0f} MiB; "
        f"{time.monotonic() - began:.0f} s",
        flush=True,
    )
    return len(findings)


def chunk(reader: str, first: int, count: int, args: argparse.Namespace) -> tuple[Tally, list[tuple[int, str]], int]:
    """Cases in a worker: what became of them, the findings, and the case to go on with."""
    options = ("--seed", args.seed, "--seconds", args.seconds, "--mib", args.mib, "--first", first, "--count", count)
    command = [sys.executable, __file__, "--worker", "--reader", reader, *map(str, options)]
    environment = {**os.environ, "MEDSEG_MEMORY_GIB": "0.25", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = [(line["case"], line["found"]) for line in lines if "found" in line]
    tallies = [Tally(**line["tally"]) for line in lines if "tally" in line]
    if tallies:
        return tallies[-1], found, first + count
    begun = [line["case"] for line in lines if "case" in line]
    if not begun:
        raise RuntimeError(f"the worker did not begin: {done.stderr}")
    last = done.stderr.strip().splitlines()[-1:]
    return Tally(), [*found, (begun[-1], f"the process ended with status {done.returncode}: {last}")], begun[-1] + 1


def work(args: argparse.Namespace) -> None:
    """The cases of one worker; a line of JSON for each that begins, for each finding, and for the whole."""
    (reader,) = args.reader
    target, tally = TARGETS[reader], Tally()
    signal.signal(signal.SIGPROF, _too_slow)
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_memory()) as place:
        folder = Path(place) / "files"
        folder.mkdir()
        path = target.make(folder)
        files = target.files(folder)
        target.read(path, 0)
        at_first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for case in range(args.first, args.first + args.count):
            tell(case=case)
            if case % _WATCHED == 0:
                faulthandler.dump_traceback_later(_WATCHED * args.seconds, exit=True)
            began = time.process_time()
            try:
                signal.setitimer(signal.ITIMER_PROF, args.seconds)
                outcome = run_case(target, path, files, args.seed, case)
            except (Exception, TooSlow) as error:  # noqa: BLE001 - whatever escapes is what is looked for
                tell(case=case, found=_described(error))
            else:
                tally.read += outcome == "read"
                tally.refused += outcome != "read"
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            tally.slowest_s = max(tally.slowest_s, time.process_time() - began)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - at_first) / 1024
            if grown > args.mib and tally.grown_mib <= args.mib:
                tell(case=case, found=f"the memory grew by {args.mib} MiB")
            tally.grown_mib = max(tally.grown_mib, grown)
        faulthandler.cancel_dump_traceback_later()
    tell(tally=asdict(tally))


def _too_slow(*_: object) -> None:
    raise TooSlow


def _described(error: BaseException) -> str:
    """The kind of error and the place in our code, so that the same finding is told once."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames if "napari_medseg" in frame.filename]
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__} at {ours[-1] if ours else '?'}: {text if isinstance(error, AssertionError) else ''}"


def _memory() -> str | None:
    """A folder in memory, where there is one: a case is a file or two."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def tell(**content: object) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
