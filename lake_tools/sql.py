"""lake.py sql: the tables and views as SQL, for DuckDB or Athena.

python lake.py sql client                          DuckDB's, of the current state
python lake.py sql client --engine athena --view history
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from lake_tools.bucket import CONTROL, GENERATIONS, PARQUET, QUARANTINE, Lake, digest, dotted
from lake_tools.dialects import Athena, Dialect, DuckDB, literal, quoted
from lake_tools.hours import find_inputs, list_hours
from lake_tools.parquet import OBJECT
from lake_tools.parquet_columns import StoredColumn, read_columns
from lake_tools.schemas import TableSchema, published_schemas, read_schema
from lake_tools.set_aside import RESTRICTED
from lake_tools.settings import LakeError
from lake_tools.tables import Listed, lines_of, rows_of
from lake_tools.text import plural
from lake_tools.views import Relations, Shape, listed, parquet_types, table_folder

FIRST_DATE = date(2020, 1, 1)  # of the projection, while nothing has landed
# Documented: Kinesis keeps a record for 365 days at most. What is redriven lands under the day it arrived on.
OLDEST = timedelta(days=366)
VIEWS = ("current", "history", "changes", "as-of")
DIALECTS: dict[str, Callable[[], Dialect]] = {"duckdb": DuckDB, "athena": Athena}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", metavar="TABLE", help="public.client, or client where one schema has it")
    parser.add_argument("--engine", choices=[*DIALECTS], default="duckdb")
    add_view_arguments(parser)
    parser.add_argument(
        "--from",
        dest="place",
        metavar="PLACE",
        help="where DuckDB is to read the objects: a folder that has them as files (default: the bucket)",
    )
    parser.add_argument(
        "--parquet-before",
        type=date.fromisoformat,
        metavar="DATE",
        help="days before it are read from Parquet alone, for less money: what comes to them later shows "
        "once it is compacted",
    )


def add_view_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--view", choices=VIEWS, default="current", help="(default: current)")
    parser.add_argument(
        "--at", type=instant, metavar="TIME", help="of --view as-of: 2026-03-01T09:30:00Z; UTC without a zone"
    )


def instant(text: str) -> str:
    """2026-03-01T09:30:00.000000Z of any time that ISO 8601 writes. Raises ArgumentTypeError."""
    try:
        at = datetime.fromisoformat(text)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 2026-03-01T09:30:00Z") from None
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def check_moment(view: str, at: str | None) -> None:
    """Raises LakeError unless there is a time exactly where one is needed."""
    if (view == "as-of") != (at is not None):
        raise LakeError("--view as-of and --at TIME go together")


def run(options: argparse.Namespace, lake: Lake) -> int:
    check_moment(options.view, options.at)
    schema = read_schema(lake, *lake.table(options.table))
    there = available(lake, schema, options.parquet_before)
    dialect = DIALECTS[options.engine]()
    if isinstance(dialect, Athena):
        dialect.has_parquet = there.stored is not None
    shape = Shape(schema, dialect)
    stem = stem_of((schema.schema, schema.table), lake.known_tables)
    remarks = [*notes(shape, there)]
    if options.engine == "athena":
        first_date = first_date_of(lake, schema)
        remarks.append(f"-- It finds what arrived on {first_date} or later.")
        statements, sources = athena_sources(schema, stem, lake.uri(), first_date, there)
    else:
        place = f"{options.place.rstrip('/')}/" if options.place else lake.uri()
        statements, sources = duckdb_sources(schema, stem, place, there)
    statements += view_statements(shape, sources, options.view, options.at)
    print("\n\n".join(["\n".join(remarks), *(f"{statement};" for statement in statements)]))
    return 0


@dataclass(frozen=True)
class Available:
    """What there is to read: a pattern that finds no object is an error in DuckDB."""

    has_lines: bool = True
    has_control: bool = True
    is_closed: bool = False  # control/, to readers without the pipeline's tag
    has_generations: bool = False
    stored: tuple[StoredColumn, ...] | None = None  # None: there is no Parquet
    first_line_date: date | None = None  # days before it are in Parquet; None: all lines are read


def available(lake: Lake, schema: TableSchema, parquet_before: date | None) -> Available:
    """Raises LakeError, also where something before that day is not in Parquet."""
    found = Listed.of(lake, schema)
    if parquet_before is not None:
        check_compacted(lake, schema, parquet_before)
    return Available(
        bool(found.landed or not found.compacted),
        any(one.key.startswith(CONTROL) for one in found.control),
        bool(lake.settings.masks) or any(one.masks for one in published_schemas(lake, lambda _: None)),
        any(one.key.startswith(GENERATIONS) for one in found.control),
        read_columns(lake, schema) if found.compacted else None,
        parquet_before,
    )


def check_compacted(lake: Lake, schema: TableSchema, before: date) -> None:
    first = datetime(before.year, before.month, before.day, tzinfo=UTC)
    hours = [one for one in list_hours(lake, schema) if one.ends <= first]
    find_inputs(lake, schema, hours, {})
    if stale := [one for one in hours if one.is_stale]:
        raise LakeError(
            f"{plural(len(stale), 'hour')} of {schema} before {before} not in Parquet, the first is "
            f"{stale[0].folder}: python lake.py compact {schema}"
        )


def stem_of(table: tuple[str, str], known: Iterable[tuple[str, str]]) -> str:
    """What the names of the table's views begin with, and of no other's: public_client.

    Engines take names that differ by case alone for one, and Athena takes few characters. Where that or
    another table would make it ambiguous, a digest of the name follows: public_client_0f343b09.
    """
    stem = plain_stem(table)
    others = [one for one in known if one != table and "_".join(one) == stem]
    if "_".join(table) == stem and not others:
        return stem
    return f"{stem}_{digest(dotted(table))[:8]}"


def plain_stem(table: tuple[str, str]) -> str:
    return re.sub("[^a-z0-9_]", "_", "_".join(table).lower())


def first_date_of(lake: Lake, schema: TableSchema) -> date:
    """A day before which nothing is, nor comes when it is redriven."""
    places = (CONTROL, QUARANTINE, RESTRICTED, table_folder(schema), table_folder(schema, PARQUET))
    folders = [name for one in places for name in lake.folders(one)]
    days = []
    for name in folders:
        with suppress(ValueError):  # a folder of somebody else
            days.append(date.fromisoformat(name.removeprefix("cdc_date=")))
    return min(days) - OLDEST if days else FIRST_DATE


def notes(shape: Shape, there: Available) -> Iterable[str]:
    """What a reader has to know, as comments."""
    yield f"-- {shape.schema} in {shape.dialect.name}, by its schema of {shape.schema.published_at}"
    for column in shape.columns:
        if column.name != column.source:
            yield f"-- column {json.dumps(column.source, ensure_ascii=False)} is {column.sql} here"
    if there.first_line_date is not None:
        yield f"-- What comes to a day before {there.first_line_date} shows once lake.py compact has seen it."
    if there.is_closed:
        yield "-- control/ is closed to readers: a reload shows once lake.py compact has seen it."
    if there.has_lines:
        yield "-- Of lines, values of columns that the schema does not know are not in cdc_rescued here."
    if isinstance(shape.dialect, Athena):
        yield "-- Athena takes one statement at a time."
        if there.stored is not None:
            yield "-- Of Parquet it reads times to the millisecond; within one, the order is that of LSNs."
        if shape.lobs:
            yield "-- It stops with an error where a LOB has to be followed over ten changes of a key."
    else:
        yield "-- DuckDB reads s3:// with its extension httpfs; --from DIR is for copies of the objects."


@dataclass(frozen=True)
class TableSources:
    """Relations, as SQL; stem: what the names of the table's views begin with."""

    lines: str | None
    control: str
    stem: str
    parquet: str | None = None
    stored: tuple[StoredColumn, ...] = ()


def duckdb_sources(
    schema: TableSchema, stem: str, place: str, there: Available
) -> tuple[list[str], TableSources]:
    """place: "s3://landing/raw/", "output/"."""
    lines = f"{place}{table_folder(schema)}*/*/*.jsonl.gz" if there.has_lines else None
    control = [f"{place}{CONTROL}*/*.jsonl.gz"] if there.has_control and not there.is_closed else []
    control += [f"{place}{table_folder(schema, GENERATIONS)}*.jsonl.gz"] if there.has_generations else []
    parquet = f"{place}{table_folder(schema, PARQUET)}*/*/{OBJECT}"
    since = ""
    if there.first_line_date is not None:
        since = f" WHERE cdc_date >= DATE '{there.first_line_date}'"
    return ["SET TimeZone = 'UTC'"], TableSources(
        f"(SELECT json FROM read_ndjson_objects({literal(lines)}, hive_partitioning = true){since}) AS lines"
        if lines
        else None,
        lines_of(control),
        stem,
        rows_of([parquet], there.stored) if there.stored is not None else None,
        there.stored or (),
    )


def athena_sources(
    schema: TableSchema, stem: str, place: str, first_date: date, there: Available
) -> tuple[list[str], TableSources]:
    """External tables: of lines, a column each; of Parquet. Partitions are projected: nothing is crawled."""
    # Not control_lines: those are the lines of a table client_control.
    lines, control, generations, parquet = (
        f"{stem}_{name}" for name in ("lines", "control", "generations", "parquet")
    )
    dates = {
        "projection.enabled": "true",
        "projection.cdc_date.type": "date",
        "projection.cdc_date.format": "yyyy-MM-dd",
        "projection.cdc_date.range": f"{first_date},NOW+1DAYS",
        "projection.cdc_date.interval": "1",
        "projection.cdc_date.interval.unit": "DAYS",
    }
    hours = {
        "projection.cdc_hour.type": "integer",
        "projection.cdc_hour.range": "0,23",
        "projection.cdc_hour.digits": "2",
    }
    hourly = ["cdc_date", "cdc_hour"]
    statements = [external_table(lines, place + table_folder(schema), hourly, dates | hours)]
    controls = []
    if not there.is_closed:
        statements.append(external_table(control, place + CONTROL, ["cdc_date"], dates))
        controls.append(control)
    if there.has_generations:
        statements.append(external_table(generations, place + table_folder(schema, GENERATIONS), [], {}))
        controls.append(generations)
    if there.stored is not None:
        folder = place + table_folder(schema, PARQUET)
        statements.append(parquet_table(parquet, folder, there.stored, hourly, dates | hours))
    since = f"(SELECT * FROM {lines} WHERE cdc_date >= '{there.first_line_date}') AS lines"
    drops = " UNION ALL ".join(f"SELECT line FROM {name}" for name in controls)
    nothing = "SELECT CAST(NULL AS VARCHAR) AS line WHERE FALSE"
    return statements, TableSources(
        lines if there.first_line_date is None else since,
        controls[0] if len(controls) == 1 else f"({drops or nothing}) AS controls",
        stem,
        parquet if there.stored is not None else None,
        there.stored or (),
    )


def parquet_table(
    name: str, folder: str, stored: Sequence[StoredColumn], partitions: list[str], properties: dict[str, str]
) -> str:
    """One whose columns are read by their names."""
    types = parquet_types(stored).items()
    typed = [f"`{column.lower()}` {Athena().stored_type(kind)}" for column, kind in types]
    return f"""\
CREATE EXTERNAL TABLE IF NOT EXISTS `{name}` (
    {listed(typed)}
)
PARTITIONED BY ({", ".join(f"`{partition}` string" for partition in partitions)})
STORED AS PARQUET
{location(folder, partitions, properties)}"""


def external_table(name: str, folder: str, partitions: list[str], properties: dict[str, str]) -> str:
    """One whose rows are lines of text: \\001, where a column would end, can't be in a line of JSON."""
    by = f"PARTITIONED BY ({', '.join(f'`{partition}` string' for partition in partitions)})\n"
    return f"""\
CREATE EXTERNAL TABLE IF NOT EXISTS `{name}` (`line` string)
{by if partitions else ""}ROW FORMAT DELIMITED FIELDS TERMINATED BY '\\001'
STORED AS TEXTFILE
{location(folder, partitions, properties)}"""


def location(folder: str, partitions: list[str], properties: dict[str, str]) -> str:
    if not partitions:
        return f"LOCATION {literal(folder)}"
    template = folder + "/".join(f"{partition}=${{{partition}}}" for partition in partitions) + "/"
    settings = [f"{literal(key)} = {literal(value)}" for key, value in properties.items()]
    settings.append(f"'storage.location.template' = {literal(template)}")
    return f"""\
LOCATION {literal(folder)}
TBLPROPERTIES (
    {("," + chr(10) + "    ").join(settings)}
)"""


def view_statements(shape: Shape, sources: TableSources, view: str, at: str | None) -> list[str]:
    """The view that was asked for, and those below it."""
    names = {name: quoted(f"{sources.stem}_{name}") for name in ("landed", "drops", "history")}
    relations = Relations(**names)
    landed = [shape.landed(sources.lines)] if sources.lines else []
    landed += [shape.compacted(sources.parquet, sources.stored)] if sources.parquet else []
    selects = {names["landed"]: "\nUNION ALL\n".join(landed), names["history"]: shape.history(relations)}
    if view != "history":
        selects[names["drops"]] = shape.drops(sources.control)
        last = quoted(f"{sources.stem}_{view.replace('-', '_')}")
        if view == "changes":
            selects[last] = shape.changes(relations)
        else:
            selects[last] = shape.current(relations, shape.dialect.instant(at) if at else None)
    return [f"CREATE OR REPLACE VIEW {name} AS\n{select}" for name, select in selects.items()]
