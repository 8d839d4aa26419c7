"""lake.py compact: closed hours of what landed become typed, sorted Parquet, an object an hour.

    python lake.py compact                      all tables, each hour that was over an hour ago
    python lake.py compact client --rebuild     all over again, with the schema as it is now
    python lake.py compact --watch              goes on

Nothing that landed is changed or deleted. An hour is compacted again when an object has come to it, or was
written anew, since. Objects that have expired meanwhile are in the Parquet so far, which is then an input
itself. So it can be interrupted, repeated, or run twice at once: an hour's Parquet is replaced only while it
is the one that was looked at.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lake_tools.bucket import ROUNDS, Lake, cache_failing, dotted, make_folder, version_of
from lake_tools.generations import keep_drops
from lake_tools.hours import DIGEST, Digests, Hour, find_again, find_inputs, list_hours
from lake_tools.parquet import (
    OBJECT,
    Written,
    copy_hour,
    digest_of,
    mean_row_bytes,
    rows_query,
    stored_shape,
    written,
)
from lake_tools.parquet_columns import StoredColumn, settle_columns
from lake_tools.schemas import TableSchema, read_schema
from lake_tools.settings import ERRORS, NoSchemaError
from lake_tools.tables import connected, lines_of, reading, rows_of, with_unknown
from lake_tools.text import aligned, plural, printable
from lake_tools.views import Shape

OLDER_THAN = "1h"
WATCH_SECONDS = 600.0
MEMORY = "1GB"  # DuckDB's; what does not fit goes to the cache
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", nargs="?", metavar="TABLE", help="public.client (default: all)")
    parser.add_argument(
        "--older-than",
        type=age,
        default=age(OLDER_THAN),
        metavar="AGE",
        help=f"how long an hour has to be over: 30m, 6h, 2d (default: {OLDER_THAN}); when rows come to it, "
        "it is compacted again",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="hours that are not over, too: they are compacted again as they fill",
    )
    once_or_on = parser.add_mutually_exclusive_group()
    once_or_on.add_argument("--rebuild", action="store_true", help="what is compacted already too, anew")
    once_or_on.add_argument(
        "--watch", action="store_true", help=f"again every {WATCH_SECONDS / 60:.0f} minutes"
    )
    parser.add_argument("--json", action="store_true", help="for machines; with --watch, an object a line")


def age(text: str) -> timedelta:
    found = re.fullmatch("([0-9]{1,6})([smhd])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no age: write 30m, 6h or 2d")
    return timedelta(seconds=int(found[1]) * UNITS[found[2]])


def run(options: argparse.Namespace, lake: Lake) -> int:
    """1 when something could not be compacted; the rest is."""
    digests: Digests = {}
    if not options.watch:
        outcomes = compact(lake, options, digests)
        show(outcomes, options)
        return 1 if any(one.faults for one in outcomes) else 0
    while True:
        try:
            show(compact(lake, options, digests), options)
        except ERRORS as error:  # it may pass
            print(f"error: {error}", file=sys.stderr)
        sys.stdout.flush()
        time.sleep(WATCH_SECONDS)


# --------------------------------------------------------------------------------------------------------
# Tables
# --------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What became of a table."""

    table: str
    hours: int = 0  # compacted now
    rows: int = 0
    inputs: int = 0  # landing objects
    size_bytes: int = 0  # of the Parquet
    current: int = 0  # hours that were compacted before, and are still
    open: int = 0  # hours that are not closed
    rescued: Counter[str] = field(default_factory=Counter)  # values in cdc_rescued, by column
    unknown: list[str] = field(default_factory=list)  # of these columns, those that the schema does not know
    has_schema: bool = True
    faults: list[str] = field(default_factory=list)  # why an hour, or the table, could not be compacted

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def compact(
    lake: Lake, options: argparse.Namespace, digests: Digests, now: datetime | None = None
) -> list[Outcome]:
    """One for each table, whether or not there was something to do. Raises LakeError."""
    names = lake.tables() if options.table is None else [lake.table(options.table)]
    keep_drops(lake, names)
    outcomes = []
    with lake.progress.of("compacting", len(names)) as advance:
        for name in names:
            outcome = Outcome(dotted(name))
            with told(outcome):
                compact_table(lake, name, outcome, options, digests, now or datetime.now(UTC))
            outcomes.append(outcome)
            advance(1)
    return outcomes


@contextmanager
def told(outcome: Outcome) -> Iterator[None]:
    """What can't be compacted does not hold up the rest."""
    try:
        yield
    except ERRORS as error:
        outcome.faults.append(str(error))


def compact_table(
    lake: Lake,
    name: tuple[str, str],
    outcome: Outcome,
    options: argparse.Namespace,
    digests: Digests,
    now: datetime,
) -> None:
    schema = schema_of(lake, name)
    outcome.has_schema = bool(schema.columns)
    hours = list_hours(lake, schema)
    closed = [one for one in hours if options.all or one.ends + options.older_than <= now]
    find_inputs(lake, schema, closed, digests)
    todo = [one for one in closed if one.is_stale or options.rebuild]
    outcome.open, outcome.current = len(hours) - len(closed), len(closed) - len(todo)
    if not todo:
        return
    stored = settle_columns(lake, schema)
    known = {column.name for column in schema.columns}
    with lake.progress.of(f"hours of {schema}", len(todo)) as advance:
        for hour in todo:
            with told(outcome):
                compact_hour(lake, schema, stored, hour, outcome)
            advance(1)
    outcome.unknown = sorted(outcome.rescued.keys() - known)


def schema_of(lake: Lake, name: tuple[str, str]) -> TableSchema:
    """Without columns where nobody has said which there are: all values go to cdc_rescued then."""
    try:
        return read_schema(lake, *name)
    except NoSchemaError:
        return TableSchema(*name, (), (), "control", "")


# --------------------------------------------------------------------------------------------------------
# Hours
# --------------------------------------------------------------------------------------------------------


def compact_hour(
    lake: Lake, schema: TableSchema, stored: Sequence[StoredColumn], hour: Hour, outcome: Outcome
) -> None:
    """Writes the Parquet, and adds to the outcome what is in it. Raises LakeError."""
    for _ in range(ROUNDS):
        with folder_of_parts(lake) as folder:
            made = write_hour(lake, schema, stored, hour, folder)
            metadata = {DIGEST: digest_of(hour.given)}
            if lake.put_in_place(hour.key, made.path, hour.compacted and hour.compacted.etag, metadata):
                outcome.hours += 1
                outcome.rows += made.rows
                outcome.inputs += len(hour.landed)
                outcome.size_bytes += made.path.stat().st_size
                outcome.rescued += made.rescued
                return
        find_again(lake, hour)
        if not hour.is_stale:  # another run has just done it
            return
    raise lake.contended(hour.key)


@contextmanager
def folder_of_parts(lake: Lake) -> Iterator[Path]:
    """For files that are gone at the end."""
    folder = lake.parts / uuid.uuid4().hex
    with cache_failing(lake.cache):
        make_folder(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_hour(
    lake: Lake, schema: TableSchema, stored: Sequence[StoredColumn], hour: Hour, folder: Path
) -> Written:
    """The hour's rows as a file; with those of its Parquet, if an object that they are of is gone.

    An object that is written anew after it was listed is named as it was when it was read.
    """
    copies = lake.fetch(hour.landed)
    asked_at = time.time()
    uris = {copy: lake.uri(one.key) for copy, one in zip(copies, hour.landed, strict=True)}
    former: list[Path] = []
    if hour.compacted is not None and not hour.inputs <= hour.given:
        former = lake.fetch([hour.compacted])
    hour.landed = [one._replace(etag=version_of(copy)) for one, copy in zip(hour.landed, copies, strict=True)]
    inputs = hour.inputs | hour.given
    path = folder / OBJECT

    def statements(shape: Shape) -> Iterator[str]:
        rows = rows_query(shape.landed(lines_of(copies)), rows_of(former, stored) if former else None)
        yield from copy_hour(connection, rows, inputs, path, row_bytes)

    with connected(lake.cache, MEMORY) as connection, reading(hour.folder, copies, uris):
        connection.execute("SET preserve_insertion_order = true")
        row_bytes = mean_row_bytes(connection, copies, former)
        with_unknown(connection, stored_shape(schema, stored), copies, statements)
        made = written(connection, path)
    lake.forget(copies, asked_at)
    return made


# --------------------------------------------------------------------------------------------------------
# The report
# --------------------------------------------------------------------------------------------------------


def show(outcomes: Sequence[Outcome], options: argparse.Namespace) -> None:
    """What was done on stdout; what could not be, on stderr."""
    if options.json:
        indent = None if options.watch else 2
        print(json.dumps([one.as_dict() for one in outcomes], indent=indent, ensure_ascii=False))
    else:
        for line in report(outcomes):
            print(line)
    for one in outcomes:
        for fault in one.faults:
            print(f"error: {one.table}: {fault}", file=sys.stderr)


def report(outcomes: Sequence[Outcome]) -> Iterator[str]:
    if done := [one for one in outcomes if one.hours]:
        rows: list[tuple[str, ...]] = [("table", "hours", "rows", "objects", "Parquet", "rescued")]
        for one in done:
            numbers = (one.hours, one.rows, one.inputs, one.size_bytes, one.rescued.total())
            rows.append((one.table, *(f"{number:,}" for number in numbers)))
        yield from aligned(rows)
    for one in outcomes:
        yield from rescued_lines(one)
    yield summary(outcomes)


def rescued_lines(one: Outcome) -> Iterator[str]:
    """Which values are in cdc_rescued, why, and what is to be done."""
    advice = f"python lake.py schema {one.table} publish, and the views show them"
    if one.rescued and not one.has_schema:
        yield f"{one.table}: there is no schema of it, so all its values are in cdc_rescued: {advice}"
        return
    for column, count in sorted(one.rescued.items()):
        values = f"{one.table}: {plural(count, 'value')} of {printable(column)} in cdc_rescued"
        if column in one.unknown:
            yield f"{values}, the schema has no such column: {advice}"
        else:
            yield f"{values}, not of its type: see python lake.py show {one.table} --view history --all"


def summary(outcomes: Sequence[Outcome]) -> str:
    hours, current, waiting = (
        sum(getattr(one, name) for one in outcomes) for name in ("hours", "current", "open")
    )
    parts = [f"{plural(hours, 'hour')} compacted" if hours else "nothing to compact"]
    if current:
        parts.append(f"{plural(current, 'hour')} compacted before")
    if waiting:
        parts.append(f"{plural(waiting, 'hour')} not closed yet: --all takes them too")
    return ", ".join(parts)
