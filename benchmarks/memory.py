"""Peak memory of a candidate above the event, in a process of its own.

python -m benchmarks.memory CANDIDATE EVENT_FILE cold|warm prints MB; cold includes the candidate's imports.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import peers

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # Source: https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html


def peaks(candidates: list[str], event_text: str) -> dict[str, tuple[float, float]]:
    """Peak MB above the event of each candidate: with its imports, and without."""
    with tempfile.TemporaryDirectory() as folder:
        event_file = Path(folder, "event.json")
        event_file.write_text(event_text)
        return {
            name: (peak_of(name, event_file, "cold"), peak_of(name, event_file, "warm"))
            for name in candidates
        }


def peak_of(candidate: str, event_file: Path, start: str) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", candidate, str(event_file), start]
    found = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return float(found.stdout)


def main(candidate: str, event_file: str, start: str) -> None:
    run = peers.CANDIDATES[candidate]
    if start == "warm":
        small_event = json.loads(Path(event_file).read_text())
        small_event["Records"] = small_event["Records"][:1]
        run(small_event, peers.Sink(), "")
        del small_event
    event = json.loads(Path(event_file).read_text())
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # so that what json.loads freed does not hide what comes
    before = peak_bytes(reset=True)
    run(event, peers.Sink(), "")
    print((peak_bytes() - before) / 1e6)


def peak_bytes(*, reset: bool = False) -> int:
    """The most memory the process had since the last reset; where it can't be reset, since it began."""
    if reset and os.access(CLEAR_REFS, os.W_OK):
        CLEAR_REFS.write_text(RESET_PEAK)
    if STATUS.exists():
        return 1024 * next(int(line.split()[1]) for line in STATUS.open() if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts in bytes


if __name__ == "__main__":
    main(*sys.argv[1:])
