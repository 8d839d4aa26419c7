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
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lake_tools.bucket import CHANGES, PARQUET, Lake, LakeObject, dotted, make_folder
from lake_tools.generations import keep_drops
from lake_tools.parquet import (
    Input,
    Written,
    copy_statement,
    digest_of,
    folder_of,
    hour_query,
    input_of,
    parquet_key,
    read_inputs,
    stored_shape,
    written,
)
from lake_tools.parquet_columns import StoredColumn, settle_columns
from lake_tools.schemas import TableSchema, read_schema
from lake_tools.settings import ERRORS, LakeError, NoSchemaError
from lake_tools.tables import LANDED, connected, lines_of, reading, rows_of, with_unknown
from lake_tools.text import aligned, plural, printable
from lake_tools.views import Shape, table_folder

OLDER_THAN = "1h"
WATCH_SECONDS = 600.0
ROUNDS = 5  # how often another run may have just compacted the same hour
HEAD_THREADS = 16
MEMORY = "1GB"  # DuckDB's; what does not fit goes to the cache
DIGEST = "inputs-sha256"  # in the object's metadata, which takes 2 KB: the inputs themselves are in the file
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
    parser.add_argument(
        "--rebuild", action="store_true", help="what is compacted already too: the schema is new"
    )
    parser.add_argument("--watch", action="store_true", help=f"again every {WATCH_SECONDS / 60:.0f} minutes")
    parser.add_argument("--json", action="store_true", help="for machines; with --watch, an object a line")


def age(text: str) -> timedelta:
    found = re.fullmatch("([0-9]{1,6})([smhd])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no age: write 30m, 6h or 2d")
    return timedelta(seconds=int(found[1]) * UNITS[found[2]])


def run(options: argparse.Namespace, lake: Lake) -> int:
    """1 when a table could not be compacted; the others are."""
    if not options.watch:
        outcomes = compact(lake, options)
        show(outcomes, options)
        return 1 if any(one.fault for one in outcomes) else 0
    while True:
        try:
            show(compact(lake, options), options)
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
    fault: str = ""

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def compact(lake: Lake, options: argparse.Namespace, now: datetime | None = None) -> list[Outcome]:
    """One for each table, whether or not there was something to do. Raises LakeError."""
    names = lake.tables() if options.table is None else [lake.table(options.table)]
    keep_drops(lake, names)
    outcomes = []
    with lake.progress.of("compacting", len(names)) as advance:
        for name in names:
            outcome = Outcome(dotted(name))
            try:
                compact_table(lake, name, outcome, options, now or datetime.now(UTC))
            except ERRORS as error:
                outcome.fault = str(error)
            outcomes.append(outcome)
            advance(1)
    return outcomes


def compact_table(
    lake: Lake, name: tuple[str, str], outcome: Outcome, options: argparse.Namespace, now: datetime
) -> None:
    schema = schema_of(lake, name)
    outcome.has_schema = bool(schema.columns)
    hours = list_hours(lake, schema)
    closed = [one for one in hours if options.all or one.ends + options.older_than <= now]
    outcome.open = len(hours) - len(closed)
    look_at_all(lake, schema, closed)
    todo = [one for one in closed if one.is_stale or options.rebuild]
    outcome.current = len(closed) - len(todo)
    if not todo:
        return
    stored = settle_columns(lake, schema)
    known = {column.name for column in schema.columns}
    with lake.progress.of(f"hours of {schema}", len(todo)) as advance:
        for hour in todo:
            compact_hour(lake, schema, stored, hour, outcome)
            outcome.unknown = sorted(outcome.rescued.keys() - known)
            advance(1)


def schema_of(lake: Lake, name: tuple[str, str]) -> TableSchema:
    """Without columns where nobody has said which there are: all values go to cdc_rescued then."""
    try:
        return read_schema(lake, *name)
    except NoSchemaError:
        return TableSchema(*name, (), (), "control", "")


# --------------------------------------------------------------------------------------------------------
# Hours
# --------------------------------------------------------------------------------------------------------


@dataclass
class Hour:
    """What is there of an hour."""

    folder: str  # public/client/cdc_date=2026-03-01/cdc_hour=09
    ends: datetime
    landed: list[LakeObject] = field(default_factory=list)
    compacted: LakeObject | None = None
    inputs: set[Input] = field(default_factory=set)  # of the Parquet

    @property
    def key(self) -> str:
        return parquet_key(self.folder)

    @property
    def given(self) -> set[Input]:
        return {input_of(one) for one in self.landed}

    @property
    def is_stale(self) -> bool:
        """Whether something has landed that is not in the Parquet."""
        return self.compacted is None or not self.given <= self.inputs


def list_hours(lake: Lake, schema: TableSchema) -> list[Hour]:
    """Those that have objects in changes/."""
    objects: dict[str, list[LakeObject]] = defaultdict(list)
    for one in lake.objects(table_folder(schema)):
        if one.key.endswith(LANDED):
            objects[folder_of(one.key, CHANGES)].append(one)
    return [Hour(folder, ends, landed) for folder, landed in objects.items() if (ends := end_of(folder))]


def end_of(folder: str) -> datetime | None:
    """When the hour is over; None for a folder of somebody else."""
    found = re.search(r"/cdc_date=([0-9]{4}-[0-9]{2}-[0-9]{2})/cdc_hour=([0-9]{2})$", folder)
    try:
        begins = datetime.fromisoformat(f"{found[1]}T{found[2]}:00:00+00:00") if found else None
    except ValueError:
        return None
    return begins and begins + timedelta(hours=1)


def look_at_all(lake: Lake, schema: TableSchema, hours: Sequence[Hour]) -> None:
    """Finds out what the hours' Parquet is made of. Raises LakeError."""
    keys = {one.key for one in lake.objects(table_folder(schema, PARQUET))}
    with ThreadPoolExecutor(HEAD_THREADS) as pool:
        list(pool.map(lambda hour: look_at(lake, hour), [one for one in hours if one.key in keys]))


def look_at(lake: Lake, hour: Hour) -> None:
    """The digest of the inputs tells whether they are just what is there now; else they are in the file."""
    found = lake.head(hour.key)
    hour.compacted, hour.inputs = None, set()
    if found is None:
        return
    hour.compacted, metadata = found
    if metadata.get(DIGEST) == digest_of(hour.given):
        hour.inputs = hour.given
        return
    (path,) = lake.fetch([hour.compacted])
    with connected(lake.cache, MEMORY) as connection, reading(lake.uri(hour.key), (), {}):
        (hour.inputs,) = read_inputs(connection, [path])


def compact_hour(
    lake: Lake, schema: TableSchema, stored: Sequence[StoredColumn], hour: Hour, outcome: Outcome
) -> None:
    """Writes the Parquet, and adds to the outcome what is in it. Raises LakeError."""
    for _ in range(ROUNDS):
        with file_of_hour(lake) as path:
            made = write_hour(lake, schema, stored, hour, path)
            inputs = hour.inputs | hour.given
            metadata = {DIGEST: digest_of(inputs), "rows": str(made.rows)}
            etag = hour.compacted.etag if hour.compacted else None
            if lake.put_in_place(hour.key, path, etag, metadata):
                outcome.hours += 1
                outcome.rows += made.rows
                outcome.inputs += len(hour.landed)
                outcome.size_bytes += path.stat().st_size
                outcome.rescued += made.rescued
                return
        hour.landed = [one for one in lake.objects(f"{CHANGES}{hour.folder}/") if one.key.endswith(LANDED)]
        look_at(lake, hour)
    raise LakeError(
        f"cannot write {lake.uri(hour.key)}: others keep writing it too: run the same command again"
    )


@contextmanager
def file_of_hour(lake: Lake) -> Iterator[Path]:
    make_folder(lake.parts)
    path = lake.parts / f"{uuid.uuid4().hex}.parquet"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def write_hour(
    lake: Lake, schema: TableSchema, stored: Sequence[StoredColumn], hour: Hour, path: Path
) -> Written:
    """The hour's rows as a file; with those of its Parquet, if an object that they are of is gone."""
    copies = lake.fetch(hour.landed)
    uris = {copy: lake.uri(one.key) for copy, one in zip(copies, hour.landed, strict=True)}
    former = None
    if hour.compacted is not None and not hour.inputs <= hour.given:
        former = rows_of(lake.fetch([hour.compacted]), stored)
    inputs = hour.inputs | hour.given

    def statement(shape: Shape) -> str:
        return copy_statement(hour_query(shape.landed(lines_of(copies)), former), inputs, path)

    with connected(lake.cache, MEMORY) as connection, reading(f"{hour.folder}", copies, uris):
        connection.execute("SET preserve_insertion_order = true")
        with_unknown(connection, stored_shape(schema, stored), copies, statement)
        return written(connection, path)


# --------------------------------------------------------------------------------------------------------
# The report
# --------------------------------------------------------------------------------------------------------


def show(outcomes: Sequence[Outcome], options: argparse.Namespace) -> None:
    """What was done on stdout; what could not be, on stderr."""
    if options.json:
        indent = None if options.watch else 2
        print(json.dumps([one.as_dict() for one in outcomes], indent=indent, ensure_ascii=False))
    else:
        for line in report(outcomes, options):
            print(line)
    for one in outcomes:
        if one.fault:
            print(f"error: {one.table}: {one.fault}", file=sys.stderr)


def report(outcomes: Sequence[Outcome], options: argparse.Namespace) -> Iterator[str]:
    if done := [one for one in outcomes if one.hours]:
        rows: list[tuple[str, ...]] = [("table", "hours", "rows", "objects", "Parquet", "rescued")]
        for one in done:
            numbers = (one.hours, one.rows, one.inputs, one.size_bytes, one.rescued.total())
            rows.append((one.table, *(f"{number:,}" for number in numbers)))
        yield from aligned(rows)
    for one in outcomes:
        yield from rescued_lines(one)
    yield summary(outcomes, options)


def rescued_lines(one: Outcome) -> Iterator[str]:
    """Which values are in cdc_rescued, why, and what is to be done."""
    advice = f"python lake.py schema {one.table} publish, then compact {one.table} --rebuild"
    if one.rescued and not one.has_schema:
        yield f"{one.table}: there is no schema of it, so all its values are in cdc_rescued: {advice}"
        return
    for column, count in sorted(one.rescued.items()):
        why = "the schema has no such column" if column in one.unknown else "not of its type"
        values = plural(count, "value")
        yield f"{one.table}: {values} of {printable(column)} in cdc_rescued, {why}: {advice}"


def summary(outcomes: Sequence[Outcome], options: argparse.Namespace) -> str:
    hours, current, waiting = (
        sum(getattr(one, name) for one in outcomes) for name in ("hours", "current", "open")
    )
    parts = [f"{plural(hours, 'hour')} compacted" if hours else "nothing to compact"]
    if current:
        parts.append(f"{plural(current, 'hour')} compacted before")
    if waiting:
        parts.append(f"{plural(waiting, 'hour')} not closed yet: --all takes them too")
    return ", ".join(parts)
