"""What the run shows of the poller: counters, latencies, the status file, the private channel to AWS."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import threading
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]

from local_run.event_source_mapping.batches import Record
from local_run.whole_file import write_whole

RECENT_SECONDS = 5.0
STEP = math.log(1.02)  # between two buckets of latencies: a percentile is right to 2 %
LANDED = "batch landed"  # the message of the function's own line of counts
OK, FAILED = "OK", "PROBLEM: Function call failed"
CHANNEL_SECONDS = 2


@dataclass
class Totals:
    """What is counted since the start."""

    invocations: int = 0
    errors: int = 0
    records: int = 0  # acknowledged by an invocation
    rows: int = 0
    objects: int = 0
    bytes: int = 0
    given_up: int = 0


@dataclass
class Unreported:
    """What AWS, as which CloudWatch counts, has not been told."""

    invocations: int = 0
    errors: int = 0
    seconds: float = 0.0
    iterator_age_ms: float = 0.0
    result: str = ""


@dataclass
class Counters:
    """What the shards' threads count and the main thread shows."""

    totals: Totals = field(default_factory=Totals)
    unreported: Unreported = field(default_factory=Unreported)
    latencies: Counter[int] = field(default_factory=Counter)  # bucket: records
    recent: deque[tuple[float, Counter[int]]] = field(default_factory=deque)
    ages_ms: dict[str, float] = field(default_factory=dict)  # shard: age of the newest record handed over
    troubles: dict[str, str] = field(default_factory=dict)  # a shard, or the function: what is wrong just now
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count_handover(self, shard_id: str, newest: Record, now: float) -> None:
        age = max(0.0, (now - newest.arrived_at) * 1000)
        with self.lock:
            self.ages_ms[shard_id] = age
            self.unreported.iterator_age_ms = max(self.unreported.iterator_age_ms, age)

    def count_invocation(self, *, is_failure: bool, seconds: float, lines: Iterable[str]) -> None:
        with self.lock:
            self.totals.invocations += 1
            self.totals.errors += is_failure
            self.unreported.invocations += 1
            self.unreported.errors += is_failure
            self.unreported.seconds += seconds
            self.unreported.result = FAILED if is_failure else OK
            for line in lines:
                self.count_line(line)

    def count_line(self, line: str) -> None:
        """Adds the counts of the function's own line; any other line has none."""
        if LANDED not in line:
            return
        with contextlib.suppress(ValueError):
            counts = json.loads(line)
            if isinstance(counts, dict) and counts.get("message") == LANDED:
                for name in ("rows", "objects", "bytes"):
                    setattr(self.totals, name, getattr(self.totals, name) + counts.get(name, 0))

    def count_landed(self, records: Sequence[Record], now: float) -> None:
        buckets = Counter(
            [bucket(now - record.committed_at) for record in records if record.committed_at is not None]
        )
        with self.lock:
            self.totals.records += len(records)
            self.latencies.update(buckets)
            self.recent.append((now, buckets))

    def count_given_up(self, records: Sequence[Record]) -> None:
        with self.lock:
            self.totals.given_up += len(records)

    def note_trouble(self, name: str, what: str | None) -> None:
        """None: it is over. A new trouble is logged, one that goes on is not."""
        with self.lock:
            if what is None:
                self.troubles.pop(name, None)
            elif self.troubles.get(name) != what:
                self.troubles[name] = what
                note(f"{name}: {what}")

    def forget_shard(self, shard_id: str) -> None:
        with self.lock:
            self.ages_ms.pop(shard_id, None)
            self.troubles.pop(shard_id, None)

    def shown(self, now: float) -> dict[str, Any]:
        """Its part of the status file."""
        with self.lock:
            while self.recent and self.recent[0][0] < now - RECENT_SECONDS:
                self.recent.popleft()
            recent: Counter[int] = Counter()
            for _, buckets in self.recent:
                recent.update(buckets)
            return {
                **vars(self.totals),
                "iterator_age_ms": max(self.ages_ms.values(), default=None),
                "latency_ms": percentiles(self.latencies),
                "recent_latency_ms": percentiles(recent),
                "message": "; ".join(f"{name}: {what}" for name, what in self.troubles.items()) or None,
            }

    def take_unreported(self) -> Unreported:
        with self.lock:
            taken, self.unreported = self.unreported, Unreported()
            return taken


def bucket(seconds: float) -> int:
    """Buckets grow by 2 %; all that is below a millisecond is in the first."""
    return int(math.log(max(seconds * 1000, 1.0)) / STEP)


def percentiles(latencies: Counter[int]) -> dict[str, float | int | None]:
    count = sum(latencies.values())
    shown: dict[str, float | int | None] = {"count": count, "p50": None, "p99": None}
    seen = 0
    for each in sorted(latencies):
        seen += latencies[each]
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            if shown[name] is None and seen >= share * count:
                shown[name] = round(math.exp((each + 0.5) * STEP), 1)
    return shown


class FunctionTimes:
    """CPU seconds of the function's processes, those that have ended included (as last looked at)."""

    def __init__(self) -> None:
        self.seconds: dict[int, float] = {}  # of those that are alive, by process id
        self.ended_seconds = 0.0

    def look(self, pids: Sequence[int]) -> float:
        for pid in pids:
            with contextlib.suppress(psutil.Error):
                times = psutil.Process(pid).cpu_times()
                self.seconds[pid] = times.user + times.system
        for ended in self.seconds.keys() - set(pids):
            self.ended_seconds += self.seconds.pop(ended)
        return self.ended_seconds + sum(self.seconds.values())


def write_json(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(document, indent=1).encode())


def tell_aws(uuid: str, unreported: Unreported) -> None:
    """Lets the emulated AWS show what AWS knows of its own poller; another emulator is not told."""
    url = os.environ.get("AWS_ENDPOINT_URL")
    if not url or not unreported.invocations:
        return
    metrics = {
        "Invocations": unreported.invocations,
        "Errors": unreported.errors,
        "Duration": unreported.seconds * 1000 / unreported.invocations,
        "IteratorAge": unreported.iterator_age_ms,
    }
    document = {"LastProcessingResult": unreported.result, "metrics": metrics}
    request = urllib.request.Request(
        f"{url.rstrip('/')}/_emulated-aws/mapping?uuid={quote(uuid)}",
        data=json.dumps(document).encode(),
        headers={"Content-Type": "application/json"},
    )
    with contextlib.suppress(OSError):
        urllib.request.urlopen(request, timeout=CHANNEL_SECONDS).close()


def now() -> float:
    """Seconds since 1970-01-01 UTC, as records and commits are dated."""
    return time.time()


def iso_text(seconds: float) -> str:
    """2026-03-01T09:16:10.250Z"""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def note(text: str) -> None:
    """A line for the log: names, numbers and codes; never what a record holds."""
    print(f"{iso_text(now())} {text}", file=sys.stderr, flush=True)
