"""What importing the handler costs a new interpreter, boto3 left out."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

STARTS = 25
IMPORT = """
import sys, time
started = time.process_time()
import lambda_function
print(1000 * (time.process_time() - started))
assert "boto3" not in sys.modules, "importing the handler imports boto3"
"""


def import_ms() -> float:
    """CPU milliseconds, the median of many starts; bytecode is cached, files are in the page cache."""
    with tempfile.TemporaryDirectory() as bytecode:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
        command = [sys.executable, "-c", IMPORT]
        outputs = [
            subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
            for _ in range(STARTS + 1)
        ]
    return statistics.median(map(float, outputs[1:]))  # the first compiled
