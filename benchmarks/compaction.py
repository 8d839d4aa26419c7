"""Compaction of an hour, against what one would write instead, in one run: python -m benchmarks.compaction.

Writes COMPACTION.md beside this file. Every measurement is a process of its own, bound to one core or not;
the candidates take turns, on the same objects. Only Linux binds processes to cores.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from benchmarks.compactors import (
    CANDIDATES,
    COLUMNS,
    DUCKDB_TYPES,
    MODULES,
    OBJECT_ROWS,
    SHARDS,
    Hour,
    land_hour,
)
from benchmarks.cpu import s3_client
from benchmarks.memory import peak_bytes
from benchmarks.peers import BUCKET
from benchmarks.report import Bar, machine, prose, table
from benchmarks.s3_server import s3_server

FOLDER = Path(__file__).parent
ROWS, QUICK_ROWS, LARGE_ROWS = 1_000_000, 80_000, 10_000_000
ROUNDS = 3
SLOW = ("pandas", "awswrangler")  # one round of these
FEW_COLUMNS = 5  # those that loans have in the events that the handler is measured with
PACKAGES = ("duckdb", "pandas", "pyarrow", "awswrangler")
NAMES = {
    "ours": "lake.py compact",
    "typed": "DuckDB, types given",
    "duckdb": "DuckDB, types found out",
    "pandas": "pandas and pyarrow",
    "awswrangler": "AWS SDK for pandas",
}
HEADS = ("", "columns", "rows/s of a core", "CPU us a row", "to lake.py", "seconds", "peak MB", "file MB")
TEXTS = ("cdc_sequence_number", "id", "status")  # that all write alike
ALL = tuple(name for name in DUCKDB_TYPES if name != "cdc_before")


@dataclass(frozen=True)
class Cost:
    cpu_seconds: float  # user and system, of all threads
    seconds: float
    peak_mb: float  # of the process
    size_mb: float  # of the file


class Run(NamedTuple):
    candidate: str
    columns: int
    is_bound: bool  # to one core


RUNS = [
    *(Run(name, len(COLUMNS), True) for name in NAMES),
    *(Run(name, len(COLUMNS), False) for name in NAMES),
    *(Run(name, FEW_COLUMNS, True) for name in ("ours", "typed")),
]


@dataclass(frozen=True)
class Results:
    rows: int
    gzipped_mb: dict[int, float]  # by the number of columns
    costs: dict[Run, Cost]  # the cheapest round
    large: Cost | None  # of ours, with all cores

    def rate(self, run: Run) -> float:
        """Rows a second of one core's time."""
        return self.rows / self.costs[run].cpu_seconds


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compaction", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="few rows, to see that it runs; writes nothing")
    parser.add_argument("--large", action="store_true", help="an hour of ten million rows too: some minutes")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a bar is missed")
    options = parser.parse_args(arguments)
    if not hasattr(os, "sched_setaffinity"):
        raise SystemExit("cannot bind a process to one core on this system: run it on Linux")
    results = run(QUICK_ROWS if options.quick else ROWS, 1 if options.quick else ROUNDS, options.large)
    text = markdown(results)
    print(text)
    if not options.quick:
        (FOLDER / "COMPACTION.md").write_text(text)
    return 1 if options.strict and not all(bar.is_met for bar in bars(results)) else 0


def run(rows: int, rounds: int, is_large: bool) -> Results:
    found: dict[Run, list[Cost]] = {}
    with tempfile.TemporaryDirectory(prefix="compaction-") as folder, s3_server() as endpoint:
        hours = {}
        for columns in (len(COLUMNS), FEW_COLUMNS):
            say(f"making {rows:,} rows of {columns} columns")
            hours[columns] = land_hour(Path(folder, f"cache-{columns}"), rows, columns)
        upload(hours[len(COLUMNS)], endpoint)
        for number in range(rounds):
            for each in RUNS if number == 0 else [one for one in RUNS if one.candidate not in SLOW]:
                cores = "one core" if each.is_bound else "all cores"
                say(f"round {number + 1}: {NAMES[each.candidate]}, {each.columns} columns, {cores}")
                path = Path(folder, f"{each.candidate}-{each.columns}.parquet")
                found.setdefault(each, []).append(measure(each, hours[each.columns], path, endpoint))
        check(Path(folder), rows)
    costs = {each: min(times, key=lambda cost: cost.cpu_seconds) for each, times in found.items()}
    sizes = {columns: hour.gzipped_bytes / 1e6 for columns, hour in hours.items()}
    return Results(rows, sizes, costs, measure_large() if is_large else None)


def measure_large() -> Cost:
    with tempfile.TemporaryDirectory(prefix="compaction-") as folder:
        say(f"making {LARGE_ROWS:,} rows")
        hour = land_hour(Path(folder, "cache"), LARGE_ROWS)
        say("compacting them")
        return measure(Run("ours", len(COLUMNS), False), hour, Path(folder, "ours.parquet"), None)


def upload(hour: Hour, endpoint: str) -> None:
    client = s3_client(endpoint)
    for one, file in zip(hour.objects, hour.files, strict=True):
        client.put_object(Bucket=BUCKET, Key=one.key, Body=Path(file).read_bytes())


def check(folder: Path, rows: int) -> None:
    """Raises AssertionError unless all have written the same rows; those with types, the same values."""
    for columns in (len(COLUMNS), FEW_COLUMNS):
        expected = {names: fingerprint(folder / f"ours-{columns}.parquet", names) for names in (TEXTS, ALL)}
        assert expected[TEXTS][0] == rows
        for name in NAMES:
            path = folder / f"{name}-{columns}.parquet"
            names = ALL if name == "typed" else TEXTS
            if path.exists():
                assert fingerprint(path, names) == expected[names], f"{name} writes other rows"


def fingerprint(path: Path, names: tuple[str, ...]) -> tuple[Any, ...]:
    """How many rows there are, and a hash of those of the columns that the file has."""
    import duckdb

    file = f"read_parquet('{path}')"
    with duckdb.connect() as connection:
        there = {name for name, *_ in connection.execute(f"DESCRIBE SELECT * FROM {file}").fetchall()}
        columns = ", ".join(name for name in names if name in there)
        query = f"SELECT count(*), bit_xor(hash({columns})), {len(there & {*names})} FROM {file}"
        return connection.execute(query).fetchall()[0]


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


# ----------------------------------------------------------------------------------------------------------
# One measurement
# ----------------------------------------------------------------------------------------------------------


def measure(each: Run, hour: Hour, path: Path, endpoint: str | None) -> Cost:
    """Raises SystemExit when the process fails, which says itself why."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=serve, args=(theirs, each, hour, path, endpoint))
    process.start()
    theirs.close()
    try:
        cost: Cost = ours.recv()
    except EOFError as error:
        raise SystemExit(f"{NAMES[each.candidate]} has ended without a result") from error
    finally:
        process.join()
    return cost


def serve(connection: Connection, each: Run, hour: Hour, path: Path, endpoint: str | None) -> None:
    """Does the work, libraries imported before, and sends what it cost."""
    os.environ.update(
        AWS_ACCESS_KEY_ID="bench", AWS_SECRET_ACCESS_KEY="bench", AWS_DEFAULT_REGION="us-east-1"
    )
    if endpoint:
        os.environ["AWS_ENDPOINT_URL"] = endpoint
    with bound_to_one_core() if each.is_bound else nullcontext():
        for module in MODULES[each.candidate]:
            import_module(module)
        began, cpu_began = time.monotonic(), time.process_time()
        CANDIDATES[each.candidate](hour, path)
        cpu_seconds, seconds = time.process_time() - cpu_began, time.monotonic() - began
    peak_mb = peak_bytes() / 1e6
    if not path.exists() and endpoint:
        s3_client(endpoint).download_file(BUCKET, path.name, str(path))
    connection.send(Cost(cpu_seconds, seconds, peak_mb, path.stat().st_size / 1e6))


@contextmanager
def bound_to_one_core() -> Iterator[None]:
    """This process, and the pools of its libraries: a second thread on one core costs time by itself."""
    import duckdb

    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ["OMP_NUM_THREADS"] = "1"  # pyarrow goes by it
    connect = duckdb.connect

    def connect_one(**options: Any) -> Any:
        return connect(**{**options, "config": {**options.get("config", {}), "threads": 1}})

    with mock.patch.object(duckdb, "connect", connect_one):
        yield


# ----------------------------------------------------------------------------------------------------------
# The page
# ----------------------------------------------------------------------------------------------------------


def bars(found: Results) -> list[Bar]:
    rates = [
        Bar(
            f"rows of {columns} columns a second of one core",
            found.rate(Run("ours", columns, True)) / 1000,
            250,
            " thousand",
            at_least=True,
        )
        for columns in (FEW_COLUMNS, len(COLUMNS))
    ]
    if found.large is None:
        return rates
    return [*rates, Bar(f"peak memory, {LARGE_ROWS:,} rows", found.large.peak_mb, 2_000, " MB")]


def markdown(found: Results) -> str:
    """The page."""
    wide, few = len(COLUMNS), FEW_COLUMNS
    parts = [
        "# What compaction costs, against what one would write instead",
        prose(
            f"Made by `make bench` on {date.today()}: {machine(PACKAGES)}. An hour of {found.rows:,} "
            f"changes, as the handler writes them, in gzipped objects of {OBJECT_ROWS:,} rows, {SHARDS} "
            f"shards, becomes one sorted Parquet file in zstd: of {wide} columns "
            f"({found.gzipped_mb[wide]:.0f} MB gzipped) and of {few} ({found.gzipped_mb[few]:.0f} MB). "
            "CPU is user and system time of all threads, imports left out, the cheapest round; the peak is "
            "of the process. All must have written the same rows, which is checked."
        ),
        table(("bar", "wanted", "found", ""), map(str, bars(found))),
        "## On one core",
        table(HEADS, [row(found, each) for each in RUNS if each.is_bound]),
        "## On all cores",
        table(HEADS, [row(found, each) for each in RUNS if not each.is_bound]),
        prose(
            "lake.py compact is all that it does for an hour but S3: it is limited to 1 GB in DuckDB, looks "
            "for columns that the schema does not know, keeps values that are not of their type, digits of "
            "large numbers and the before image as it was written, takes a record once, and reads back what "
            "it has written. DuckDB is its COPY of read_json, sorted, without limit: with types given it "
            "passes over columns that are not among them, and rounds. pandas and pyarrow is read_json of "
            "each object, a sort and to_parquet: texts and timestamps stay texts. AWS SDK for pandas does "
            "the same, from and to an S3 in another process; its HTTP is in its time."
        ),
    ]
    if found.large:
        parts.append(f"## An hour of {LARGE_ROWS:,} rows")
        parts.append(
            prose(
                f"{found.large.seconds:.0f} s with all cores, {found.large.cpu_seconds:.0f} s of CPU, a peak "
                f"of {found.large.peak_mb:,.0f} MB, a file of {found.large.size_mb:,.0f} MB."
            )
        )
    return "\n\n".join(parts) + "\n"


def row(found: Results, each: Run) -> str:
    cost, ours = found.costs[each], found.costs[each._replace(candidate="ours")]
    cells = (
        NAMES[each.candidate],
        str(each.columns),
        f"{found.rate(each):,.0f}",
        f"{1e6 * cost.cpu_seconds / found.rows:.2f}",
        f"{cost.cpu_seconds / ours.cpu_seconds:.2f}x",
        f"{cost.seconds:.1f}",
        f"{cost.peak_mb:,.0f}",
        f"{cost.size_mb:.0f}",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
