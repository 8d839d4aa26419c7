"""Speed of the whole chain on this machine, workload to objects: python -m benchmarks.chain.

Writes CHAIN.md beside this file. Every run is `python -m local_run` as a user types it, and counts only if it
ends with the proof that all that was committed is in S3. The second emulator is ministack, behind
AWS_ENDPOINT_URL_S3 and AWS_ENDPOINT_URL_KINESIS.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.report import machine

FOLDER = Path(__file__).parent
HOST = "127.0.0.1"
START_SECONDS = 60
PARTS = {
    "workload": "workload",
    "PostgreSQL": "PostgreSQL",
    "replication": "DMS stand-in",
    "aws": "emulated AWS",
    "event_source_mapping": "poller",
    "function": "function",
}
PACKAGES = ("moto", "psycopg2-binary", "awslambdaric")
MINISTACK = Path(sys.executable).parent.parent / "ministack/bin/ministack"  # in an environment of its own


@dataclass(frozen=True)
class Run:
    emulator: str
    offered: int  # changes a second
    seconds: int
    summary: Mapping[str, Any]

    @property
    def delivered(self) -> float:
        """Changes a second, over the whole time until the last of them was in S3."""
        return float(self.summary["landed_per_second"])

    @property
    def p99_ms(self) -> float:
        return float(self.summary["latency_ms"]["p99"])


@dataclass(frozen=True)
class Bar:
    name: str
    wanted: str
    found: str
    is_met: bool


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chain", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=15, help="of each run (default: %(default)s)")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a bar is missed")
    options = parser.parse_args(arguments)
    runs = [measure("moto", rate, options.seconds, {}) for rate in (1_000, 5_000, 14_000)]
    with ministack() as variables:
        runs += [measure("ministack", rate, options.seconds, variables) for rate in (1_000, 14_000)]
    text = markdown(runs)
    print(text)
    (FOLDER / "CHAIN.md").write_text(text)
    return 1 if options.strict and not all(bar.is_met for bar in bars(runs)) else 0


def measure(emulator: str, rate: int, seconds: int, variables: Mapping[str, str]) -> Run:
    """One run; raises SystemExit when it does not end with its proof."""
    print(f"{emulator}, {rate:,} changes a second", file=sys.stderr, flush=True)
    name = f"{emulator}-{rate}"
    with tempfile.TemporaryDirectory(prefix="chain-") as folder:
        options = ["--rate", str(rate), "--seconds", str(seconds), "--poll-seconds", "0.1"]
        ended = subprocess.run(
            [sys.executable, "-m", "local_run", *options, "--format", "json", "--folder", f"{folder}/run"],
            env={**os.environ, **variables, "PIPELINE_NAME": name, "S3_BUCKET": f"{name}-rows"},
            capture_output=True,
            text=True,
            check=False,
        )
    if ended.returncode:
        raise SystemExit(f"{emulator} at {rate:,} a second: {ended.stderr.strip().splitlines()[-1]}")
    return Run(emulator, rate, seconds, json.loads(ended.stdout))


@contextmanager
def ministack() -> Iterator[dict[str, str]]:
    """The variables that lead to it."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [str(MINISTACK)],
        env={**os.environ, "GATEWAY_PORT": str(port), "BIND_HOST": HOST},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port, server)
        yield dict.fromkeys(("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_KINESIS"), f"http://{HOST}:{port}")
    finally:
        server.terminate()
        server.wait()


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            return socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
    raise SystemExit("ministack did not start")


# ----------------------------------------------------------------------------------------------------------
# The page
# ----------------------------------------------------------------------------------------------------------


def bars(runs: list[Run]) -> list[Bar]:
    steady = next(run for run in runs if (run.emulator, run.offered) == ("moto", 1_000))
    moto = max(run.delivered for run in runs if run.emulator == "moto")
    other = max(run.delivered for run in runs if run.emulator == "ministack")
    kept = steady.summary["changes_per_second"]
    return [
        Bar("moto, 1,000 a second: committed", "1,000/s", f"{kept:,.0f}/s", kept > 980),
        Bar("moto, 1,000 a second: p99", "under 400 ms", f"{steady.p99_ms:,.0f} ms", steady.p99_ms < 400),
        Bar("moto, the most", "at least 2,500/s", f"{moto:,.0f}/s", moto >= 2_500),
        Bar("ministack, the most", "at least 12,000/s", f"{other:,.0f}/s", other >= 12_000),
    ]


def markdown(runs: list[Run]) -> str:
    head = (
        f"Made by `make bench` on {date.today()}: {machine(PACKAGES)}. Every run lasts {runs[0].seconds} s, "
        "with `--poll-seconds 0.1`: poller and batching window run ten times faster than AWS's. It counts "
        "only with the proof that all that was committed is in S3. Delivered is over the whole time until "
        "the last change was there; p50 and p99 are from commit to object."
    )
    lines = ["# What the chain on one machine carries", "", *textwrap.wrap(head, 110), ""]
    lines += ["| bar | wanted | found |  |", "|---|---|---|---|"]
    for bar in bars(runs):
        lines.append(f"| {bar.name} | {bar.wanted} | {bar.found} | bar {'met' if bar.is_met else 'MISSED'} |")
    lines += ["", "| S3 and Kinesis | offered /s | delivered /s | p50 ms | p99 ms |", "|---|---|---|---|---|"]
    for run in runs:
        latency = run.summary["latency_ms"]
        cells = (run.emulator, f"{run.offered:,}", f"{run.delivered:,.0f}", f"{latency['p50']:,.0f}")
        lines.append(f"| {' | '.join(cells)} | {run.p99_ms:,.0f} |")
    lines += ["", "CPU microseconds a change; of ministack's own CPU nothing is in it.", ""]
    lines += [f"| S3 and Kinesis | offered /s | {' | '.join(PARTS.values())} | in all |"]
    lines += ["|---" * (len(PARTS) + 3) + "|"]
    for run in runs:
        used = run.summary["cpu_microseconds_per_change"]
        cells = tuple(f"{used.get(part, 0):,.0f}" for part in PARTS)
        lines.append(
            f"| {run.emulator} | {run.offered:,} | {' | '.join(cells)} | {sum(used.values()):,.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
