"""The results as a page and a chart, and the bars that they are held to."""

from __future__ import annotations

import os
import platform
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks import chart as svg
from benchmarks.costs import ASSUMPTIONS, cost
from benchmarks.cpu import Times, ratio

NAMES = {
    "A": "A: json, a PUT per record",
    "B": "B: Powertools, json, gzip.compress",
    "B compact": "B with compact JSON",
    "B1": "B1: B at gzip level 1",
    "handler": "this handler",
    "masked": "this handler, every table masked",
    "masked elsewhere": "this handler, another table masked",
    "before puts": "this handler, before its PUTs",
    "before compression": "this handler, before compression",
    "floor": "floor: base64, typed parse, join",
}
CHARTED_PEERS = {
    "A": "json, an object per record",
    "B": "Powertools, json, gzip",
    "B1": "the same at gzip level 1",
}
CPU_HEADS = ("", "us", "to this handler", "peak MB", "peak MB without imports", "runtime's json.loads us")
UPLOADS_IN_PARALLEL = 16
PACKAGES = ("msgspec", "isal", "boto3", "moto", "aws-lambda-powertools")


@dataclass(frozen=True)
class Results:
    """Times are CPU microseconds a record; memory is MB above the event, with imports and without."""

    records: dict[str, int]  # in an event of each shape
    bytes_per_row: dict[str, float]  # gzipped
    typical: dict[str, Times]
    shapes: dict[str, dict[str, Times]]
    tables: dict[str, Times]
    puts: dict[int, int]
    poison: dict[str, Times]
    s3: dict[str, Times]
    peaks: dict[str, tuple[float, float]]
    import_ms: float


@dataclass(frozen=True)
class Bar:
    name: str
    value: float
    limit: float
    unit: str
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        wanted = f"{'at least' if self.at_least else 'at most'} {self.limit:g}{self.unit}"
        outcome = "bar met" if self.is_met else "bar MISSED"
        return f"| {self.name} | {wanted} | {self.value:.2f}{self.unit} | {outcome} |"


def bars(results: Results) -> list[Bar]:
    times = results.typical
    poison = [
        Bar(
            f"one record of {name} in a batch, to a clean one",
            ratio(found, results.poison["clean"]),
            1.1,
            "x",
        )
        for name, found in results.poison.items()
        if name != "clean"
    ]
    return [
        Bar("CPU below B", ratio(times["B"], times["handler"]), 8, "x", at_least=True),
        Bar("CPU below B1", ratio(times["B1"], times["handler"]), 4.5, "x", at_least=True),
        Bar(
            "CPU before compression, to the floor",
            ratio(times["before compression"], times["floor"]),
            2.2,
            "x",
        ),
        Bar("peak memory above the event, imports included", results.peaks["handler"][0], 20, " MB"),
        Bar("200 tables to 1, before the PUTs", ratio(results.tables["200"], results.tables["1"]), 1.3, "x"),
        Bar("masked table vs unmasked", ratio(times["masked"], times["handler"]), 3, "x"),
        Bar(
            "unmasked tables while another one is masked, to no masks",
            ratio(times["masked elsewhere"], times["handler"]),
            1.1,
            "x",
        ),
        Bar("importing all but boto3, CPU", results.import_ms, 40, " ms"),
        *poison,
    ]


def markdown(results: Results) -> str:
    """The page."""
    parts = [
        "# What the handler costs, against what one would write instead",
        prose(
            f"Made by `make bench` on {date.today()}: {machine()}. "
            "A ratio is the median over rounds, in which all are measured one after the other; microseconds "
            "are this machine's and drift by a fifth. An event is filled up to Lambda's 6 MB: "
            f"{results.records['typical']:,} typical records of 440 bytes, of 4 tables. "
            "All write the same rows, which is checked first."
        ),
        table(("bar", "wanted", "found", ""), map(str, bars(results))),
        "## CPU per record, S3 in memory",
        table(CPU_HEADS, cpu_rows(results)),
        prose(
            "Peak MB is above the event. Lambda's runtime first parses the event with json.loads; the last "
            "column says what that costs in the process of each, and is not part of the first. "
            "Gzipped bytes a row: "
            + ", ".join(f"{name} {size:.0f}" for name, size in results.bytes_per_row.items())
            + ". Masked means two columns hashed and one null of each table, in the same rows; a hash is 64 "
            "digits that gzip can't make smaller than 32 bytes."
        ),
        "## Other events",
        table(
            ("", "records", "us", "B to it", "B1 to it", "before compression, to the floor"),
            shape_rows(results),
        ),
        "## Tables per batch",
        table(("tables", "us before the PUTs", "to 1 table", "PUTs a batch"), table_rows(results)),
        "## With PUTs to an S3 over HTTP, and dollars per million records",
        table(("", "CPU us", "to this handler", "compute $", "PUTs $", "total $"), cost_rows(results)),
        prose(ASSUMPTIONS),
    ]
    return "\n\n".join(parts) + "\n"


def chart(results: Results, path: Path) -> None:
    times = results.typical
    peers = [
        svg.Row(label, times[name].median, to_ours(results, name)) for name, label in CHARTED_PEERS.items()
    ]
    peers.sort(key=lambda row: -row.microseconds)
    to_floor = ratio(times["before compression"], times["floor"])
    ours = [
        svg.Row(NAMES["handler"], times["handler"].median, is_ours=True),
        svg.Row(
            NAMES["before compression"],
            times["before compression"].median,
            f"{to_floor:.1f}x the floor",
            is_ours=True,
        ),
    ]
    floor = svg.Row(NAMES["floor"], times["floor"].median)
    note = (
        f"Full 6 MB events of 4 tables, S3 in memory: PUTs cost nothing here. {date.today()}, "
        f"Python {platform.python_version()}, {platform.machine()}."
    )
    svg.draw(path, [*peers, *ours, floor], "CPU per change record, in microseconds: less is better", note)


def to_ours(results: Results, name: str) -> str:
    return f"{ratio(results.typical[name], results.typical['handler']):.1f}x this handler"


def cpu_rows(results: Results) -> Iterable[str]:
    ours = results.typical["handler"]
    for name, times in results.typical.items():
        peaks = results.peaks.get(name)
        memory = f"{peaks[0]:.1f} | {peaks[1]:.1f}" if peaks else " | "
        yield (
            f"| {NAMES[name]} | {times.median:.2f} | {ratio(times, ours):.2f}x | {memory} "
            f"| {median(times.event):.2f} |"
        )


def shape_rows(results: Results) -> Iterable[str]:
    for shape, times in {"typical": results.typical, **results.shapes}.items():
        yield (
            f"| {shape} | {results.records[shape]:,} | {times['handler'].median:.2f} "
            f"| {ratio(times['B'], times['handler']):.1f}x | {ratio(times['B1'], times['handler']):.1f}x "
            f"| {ratio(times['before compression'], times['floor']):.2f}x |"
        )


def table_rows(results: Results) -> Iterable[str]:
    for count, times in results.tables.items():
        to_one = ratio(times, results.tables["1"])
        yield f"| {count} | {times.median:.2f} | {to_one:.2f}x | {results.puts[int(count)]} |"


def cost_rows(results: Results) -> Iterable[str]:
    """B1 was not sent over HTTP: its PUTs are B's."""
    cpu_us = {name: times.median for name, times in results.s3.items()}
    cpu_us["B1"] = cpu_us["B"] - results.typical["B"].median + results.typical["B1"].median
    runtime_us = {name: median(results.typical[name].event) for name in cpu_us}
    batch = results.records["typical"]
    for name, puts, parallel in (
        ("A", batch, 1),
        ("B", 4, 1),
        ("B1", 4, 1),
        ("handler", 4, UPLOADS_IN_PARALLEL),
    ):
        found = cost(cpu_us[name] + runtime_us[name], batch, puts, parallel)
        to_ours = cpu_us[name] / cpu_us["handler"]
        yield (
            f"| {NAMES[name]} | {cpu_us[name]:.2f} | {to_ours:.1f}x "
            f"| {found.compute:.5f} | {found.puts:.5f} | {found.total:.5f} |"
        )


def machine(packages: Iterable[str] = PACKAGES) -> str:
    """Processor, cores, Python and libraries."""
    cpuinfo, models = Path("/proc/cpuinfo"), []
    if cpuinfo.exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.open() if line.startswith("model name")]
    processor = models[0] if models else platform.processor() or platform.machine()
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def table(heads: Iterable[str], rows: Iterable[str]) -> str:
    heads = list(heads)
    return "\n".join([f"| {' | '.join(heads)} |", "|" + "---|" * len(heads), *rows])


def prose(text: str) -> str:
    return textwrap.fill(text, 110)
