"""What a person sees of a run: a table along the chain while it goes on, a summary at its end.

On a terminal the table is drawn again and again on stderr; else a line comes there every few seconds.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from local_run.machine import Sample

OPERATIONS = ("insert", "update", "delete")
LINE_SECONDS = 5.0
RATE_SECONDS = 3.0  # a rate is of so long
# In the order of the chain; whose CPU is whose.
CPU_TITLES = {
    "workload": "workload",
    "PostgreSQL": "PostgreSQL",
    "replication": "DMS stand-in",
    "aws": "emulated AWS",
    "event_source_mapping": "Lambda's poller",
    "function": "the function",
}


@dataclass
class Summary:
    """How a run ended. verdict: proof.Verdict.as_dict(); None: it was not proved."""

    sample: Sample
    committed: Mapping[str, Mapping[str, int]]
    verdict: Mapping[str, Any] | None
    verdict_text: str
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)  # until all had landed
    seconds: float = 0.0  # of the workload, or of the run without one
    landed_seconds: float = 0.0  # from its begin until all was in S3
    kills: Mapping[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    is_interrupted: bool = False

    @property
    def is_exact(self) -> bool:
        return self.verdict is not None and bool(self.verdict["is_exact"])

    @property
    def changes(self) -> int:
        """What the CPU is divided by: without a workload of ours, what came through the log."""
        return self.sample.committed or self.sample.changes

    @property
    def landed_per_second(self) -> float:
        """Changes, over the whole time until the last of them was in S3."""
        return self.changes / self.landed_seconds if self.landed_seconds else 0.0

    @property
    def cpu_microseconds(self) -> dict[str, float]:
        """Of each part a change."""
        return {
            name: self.cpu_seconds[name] * 1e6 / self.changes
            for name in CPU_TITLES
            if name in self.cpu_seconds and self.changes
        }

    def as_dict(self) -> dict[str, Any]:
        sample = self.sample
        return {
            "is_exact": self.is_exact,
            "is_interrupted": self.is_interrupted,
            "seconds": round(self.seconds, 3),
            "committed": self.committed,
            "changes": self.changes,
            "changes_per_second": round(self.changes / self.seconds, 1) if self.seconds else None,
            "landed_seconds": round(self.landed_seconds, 3),
            "landed_per_second": round(self.landed_per_second, 1),
            "loaded": sample.loaded,
            "records": sample.records,
            "invocations": sample.invocations,
            "errors": sample.errors,
            "rows": sample.rows,
            "objects": sample.objects,
            "given_up": sample.given_up,
            "latency_ms": dict(sample.latency_ms),
            "cpu_microseconds_per_change": {
                name: round(used, 1) for name, used in self.cpu_microseconds.items()
            },
            "kills": dict(self.kills),
            "suspended": dict(sample.suspended),
            "verdict": self.verdict,
            "remarks": self.remarks,
        }

    def as_text(self) -> str:
        blocks = [self.committed_lines(), self.chain_lines(), self.cpu_lines(), self.end_lines()]
        return "\n\n".join("\n".join(block) for block in blocks if block)

    def committed_lines(self) -> list[str]:
        if not self.committed:
            return []
        width = max(len("committed"), *map(len, self.committed))
        lines = [f"{'committed':{width}}" + "".join(f"{name:>12}" for name in OPERATIONS)]
        for table, counts in self.committed.items():
            lines.append(f"{table:{width}}" + "".join(f"{counts.get(name, 0):>12,}" for name in OPERATIONS))
        return lines

    def chain_lines(self) -> list[str]:
        sample, rate = self.sample, self.changes / self.seconds if self.seconds else 0
        failed = f", {sample.errors:,} failed" if sample.errors else ""
        lines = [
            f"PostgreSQL        {counted(self.changes, 'change')} in {self.seconds:.1f} s ({rate:,.0f}/s)",
            f"DMS stand-in      {sample.records:,} records, of them {sample.loaded:,} loaded rows",
            f"Lambda            {counted(sample.invocations, 'invocation')}{failed}",
            f"S3                {counted(sample.rows, 'row')} in {counted(sample.objects, 'object')}",
        ]
        if self.committed:
            late = max(0.0, self.landed_seconds - self.seconds)
            lines[-1] += f", all {late:.1f} s after the last change ({self.landed_per_second:,.0f}/s)"
        if latency := latency_text(sample.latency_ms):
            lines.append(f"commit to object  {latency}")
        return lines

    def cpu_lines(self) -> list[str]:
        used = self.cpu_microseconds
        if not used:
            return []
        lines = ["CPU a change, in microseconds"]
        lines += [f"{CPU_TITLES[name]:16}{value:>8,.0f}" for name, value in used.items()]
        return [*lines, f"{'in all':16}{sum(used.values()):>8,.0f}"]

    def end_lines(self) -> list[str]:
        lines = []
        if self.kills:
            named = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
            times, changes = counted(sum(self.kills.values()), "time"), counted(self.changes, "change")
            lines.append(f"killed {times} ({named}) in {changes}{self.after_kills()}")
        return lines + self.verdict_text.splitlines() + self.remarks

    def after_kills(self) -> str:
        """: lost 0; came twice: 2 by Kinesis, 5 by DMS"""
        if self.verdict is None:
            return ""
        again = f"{self.verdict['kinesis_redeliveries']:,} by Kinesis"
        again += f", {sum(self.verdict['dms_resends'].values()):,} by DMS"
        return f": lost {self.verdict['lost']:,}; came twice: {again}"


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def latency_text(latency: Mapping[str, Any]) -> str:
    """p50 612 ms, p99 1,204 ms; empty while there is none."""
    if not latency.get("count") or latency.get("p50") is None or latency.get("p99") is None:
        return ""
    return f"p50 {latency['p50']:,.0f} ms, p99 {latency['p99']:,.0f} ms"


@dataclass
class Screen:
    """Shows samples as they come. phase: "workload", "drain"."""

    seconds: float | None  # how long it shall go on
    started: float = field(default_factory=time.monotonic)
    phase: str = ""
    samples: deque[Sample] = field(default_factory=deque)
    live: Any = None
    next_line: float = 0.0

    def __enter__(self) -> Screen:
        from rich.console import Console
        from rich.live import Live

        self.next_line = self.started + LINE_SECONDS
        console = Console(stderr=True)
        if console.is_terminal:
            self.live = Live(console=console, auto_refresh=False, transient=True)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def say(self, text: str) -> None:
        """A line of its own, above the table."""
        if self.live is not None:
            self.live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def show(self, sample: Sample) -> None:
        self.samples.append(sample)
        while len(self.samples) > 2 and self.samples[0].at < sample.at - RATE_SECONDS:
            self.samples.popleft()
        if self.live is not None:
            self.live.update(self.table(sample), refresh=True)
        elif sample.at >= self.next_line:
            self.next_line = sample.at + LINE_SECONDS
            self.say(self.line(sample))

    def rate(self, name: str) -> float:
        """Of a count of the samples, a second."""
        first, last = self.samples[0], self.samples[-1]
        if last.at <= first.at:
            return 0.0
        return max(0.0, float(getattr(last, name) - getattr(first, name)) / (last.at - first.at))

    @property
    def title(self) -> str:
        passed = time.monotonic() - self.started
        of = f" of {self.seconds:.0f}" if self.seconds else ""
        return "waiting until all has landed" if self.phase == "drain" else f"{passed:.0f}{of} s"

    def line(self, sample: Sample) -> str:
        failed = f" ({sample.errors:,} failed)" if sample.errors else ""
        parts = [f"{self.title}: {sample.committed:,} changes"] if sample.committed else [self.title]
        parts += [
            counted(sample.records, "record"),
            f"{counted(sample.invocations, 'invocation')}{failed}",
            f"{counted(sample.rows, 'row')} ({self.rate('rows'):,.0f}/s)"
            f" in {counted(sample.objects, 'object')}",
        ]
        if latency := latency_text(sample.recent_latency_ms):
            parts.append(latency)
        return ", ".join(parts)

    def rows(self, sample: Sample) -> list[tuple[str, str, str, str]]:
        """("PostgreSQL", "2,412 changes", "201", ""): stage, count, per second, lag."""
        behind = max(0, sample.committed - sample.changes)
        failed = f", {sample.errors:,} failed" if sample.errors else ""
        age = "" if sample.iterator_age_ms is None else f"{sample.iterator_age_ms:,.0f} ms"
        landed = f"{counted(sample.rows, 'row')} in {counted(sample.objects, 'object')}"
        invoked = f"{counted(sample.invocations, 'invocation')}{failed}"
        lag = counted(behind, "change") if sample.committed else ""
        rows = [
            ("DMS stand-in", counted(sample.records, "record"), self.rate("records"), lag),
            ("Lambda", invoked, self.rate("invocations"), age),
            ("S3", landed, self.rate("rows"), latency_text(sample.recent_latency_ms)),
        ]
        if sample.committed:
            rows.insert(0, ("PostgreSQL", counted(sample.committed, "change"), self.rate("committed"), ""))
        return [(stage, count, f"{rate:,.0f}", lag) for stage, count, rate, lag in rows]

    def table(self, sample: Sample) -> Any:
        from rich.table import Table

        caption = f"commit to object since the start: {latency_text(sample.latency_ms) or 'none yet'}"
        table = Table(
            title=self.title, caption=caption, box=None, title_justify="left", caption_justify="left"
        )
        for name in ("", "count", "per second", "lag"):
            table.add_column(name, justify="left" if not name else "right", min_width=10)
        for row in self.rows(sample):
            table.add_row(*row)
        return table
