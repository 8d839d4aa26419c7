"""A file that is replaced as a whole: who reads it, or starts after a kill, finds the former content or this.

Not synced to the disk: a process is killed here, not the machine.
"""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)
