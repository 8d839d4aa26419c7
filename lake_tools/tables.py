"""A table of the lake in DuckDB, on this machine.

    with open_table(lake, read_schema(lake, "public", "client")) as connection:
        connection.sql("SELECT id, name FROM current WHERE name LIKE 'L%'").show()
        as_of(connection, "2026-03-01T09:30:00Z").fetchall()

The relations history, changes and, where the table has a primary key, current are those of lake_tools.views.
They are of the objects that were listed; rows are read once, when the table is opened. DuckDB keeps what does
not fit its memory in files in the cache, for as long as it is open.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lake_tools.bucket import (
    CHANGES,
    CONTROL,
    GENERATIONS,
    PARQUET,
    Lake,
    LakeObject,
    cache_failing,
    code_of,
    make_folder,
)
from lake_tools.dialects import DuckDB, literal, quoted
from lake_tools.parquet import Input, folder_of, input_of, is_compacted, read_inputs
from lake_tools.parquet_columns import StoredColumn, read_columns
from lake_tools.schemas import TableSchema
from lake_tools.settings import LakeError
from lake_tools.views import UNKNOWN, Relations, Shape, parquet_types, table_folder

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

KEPT_SECONDS = 7 * 24 * 3600
# What Kinesis has delivered again can stand in two objects; mostly nothing has, and a look at that is cheap.
HAS_COPIES = """
SELECT count(*) > (SELECT count(*) FROM (SELECT DISTINCT cdc_shard_id, cdc_sequence_number FROM history))
FROM history"""
ONE_EACH = """
CREATE OR REPLACE TABLE history AS SELECT * FROM history
QUALIFY row_number() OVER (PARTITION BY cdc_shard_id, cdc_sequence_number) = 1"""


class Listed(NamedTuple):
    """The objects that tell of a table, as one listing had them."""

    landed: list[LakeObject]
    compacted: list[LakeObject]
    control: list[LakeObject]  # when it was dropped for a load

    @classmethod
    def of(cls, lake: Lake, schema: TableSchema) -> Listed:
        """Those there are now. Raises LakeError."""
        compacted = [one for one in lake.objects(table_folder(schema, PARQUET)) if is_compacted(one)]
        control = lake.line_objects(CONTROL) + lake.objects(table_folder(schema, GENERATIONS))
        return cls(lake.line_objects(table_folder(schema)), compacted, control)


class Copies(NamedTuple):
    """What was listed, on this machine."""

    landed: list[Path]  # only what is not in Parquet
    compacted: list[Path]
    control: list[Path]
    uris: Mapping[Path, str] = {}  # what each is a copy of, for errors


@contextmanager
def open_table(
    lake: Lake, schema: TableSchema, listed: Listed | None = None, *, memory_limit: str | None = None
) -> Iterator[DuckDBPyConnection]:
    """A connection with the table's views. Raises LakeError.

    listed: None = what there is now. memory_limit: as DuckDB takes it, "2GB"; None = most of what the
    machine has.
    """
    listed = Listed.of(lake, schema) if listed is None else listed
    with connected(lake.cache, memory_limit) as connection:
        copies = fetch(lake, listed, connection)
        make_views(connection, schema, copies, read_columns(lake, schema) if copies.compacted else ())
        yield connection


def fetch(lake: Lake, listed: Listed, connection: DuckDBPyConnection) -> Copies:
    """Copies of the Parquet, and of what landed and is not in it: that is told by the Parquet itself."""
    compacted = lake.fetch(listed.compacted)
    held = {
        (folder_of(one.key, PARQUET), given)
        for one, inputs in zip(listed.compacted, inputs_of(lake, connection, compacted), strict=True)
        for given in inputs
    }
    landed = [one for one in listed.landed if (folder_of(one.key, CHANGES), input_of(one)) not in held]
    files = lake.fetch(landed)
    control, control_files = fetch_control(lake, listed.control)
    paths, objects = [*files, *control_files], [*landed, *control]
    uris = {path: lake.uri(one.key) for path, one in zip(paths, objects, strict=True)}
    return Copies(files, compacted, control_files, uris)


def inputs_of(lake: Lake, connection: DuckDBPyConnection, files: Sequence[Path]) -> list[set[Input]]:
    with reading(f"Parquet of {lake.uri(PARQUET)}"):
        return read_inputs(connection, files)


def fetch_control(lake: Lake, control: Sequence[LakeObject]) -> tuple[Sequence[LakeObject], list[Path]]:
    """Those that the reader may read, and copies: where control/ is closed, what compaction kept of it."""
    try:
        return control, lake.fetch(control)
    except LakeError as error:
        kept = [one for one in control if one.key.startswith(GENERATIONS)]
        if not kept or code_of(error) != "AccessDenied":
            raise
        print(
            f"{lake.uri(CONTROL)} is closed to you: only reloads that lake.py compact has seen are known",
            file=sys.stderr,
        )
        return kept, lake.fetch(kept)


@contextmanager
def connected(cache: Path, memory_limit: str | None) -> Iterator[DuckDBPyConnection]:
    """An empty database that is gone at the end."""
    import duckdb

    spilled = spill_folder(cache)
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": False,
            "preserve_insertion_order": False,
            "temp_directory": str(spilled),
        }
    )
    try:
        connection.execute("SET TimeZone = 'UTC'")
        if memory_limit is not None:
            connection.execute(f"SET memory_limit = {literal(memory_limit)}")
        yield connection
    finally:
        connection.close()
        shutil.rmtree(spilled, ignore_errors=True)


def spill_folder(cache: Path) -> Path:
    """A new one; those that killed processes left go after a week. Raises LakeError."""
    folder = cache / "spilled" / uuid.uuid4().hex
    with cache_failing(cache):
        make_folder(folder)
        for other in folder.parent.iterdir():
            with suppress(FileNotFoundError):  # another process tidies too
                if other.stat().st_mtime < time.time() - KEPT_SECONDS:
                    shutil.rmtree(other, ignore_errors=True)
    return folder


def make_views(
    connection: DuckDBPyConnection, schema: TableSchema, copies: Copies, stored: Sequence[StoredColumn] = ()
) -> None:
    """Reads the files into a table, history; the rest are views. Raises LakeError without DuckDB's text."""
    shape = Shape(schema, DuckDB())
    landed, compacted = copies.landed, copies.compacted
    with reading(f"{len(landed) + len(compacted)} objects of {schema}", landed, copies.uris):
        create = f"CREATE TABLE history AS {shape.compacted(rows_of(compacted, stored), stored)} UNION ALL "
        with_unknown(connection, shape, landed, lambda known: [create + known.landed(lines_of(landed))])
        if connection.execute(HAS_COPIES).fetchone() == (True,):
            connection.execute(ONE_EACH)
    with reading(f"{len(copies.control)} objects of {CONTROL}", copies.control, copies.uris):
        connection.execute(f"CREATE TABLE drops AS {shape.drops(lines_of(copies.control))}")
    with reading(f"the views of {schema}"):
        connection.execute(f"CREATE VIEW changes AS {shape.changes(Relations())}")
        if schema.primary_key:
            connection.execute(f"CREATE VIEW current AS {shape.current(Relations())}")
            connection.execute(f"CREATE MACRO as_of(moment) AS TABLE {shape.current(Relations(), 'moment')}")


def with_unknown(
    connection: DuckDBPyConnection,
    shape: Shape,
    landed: Sequence[Path],
    statements: Callable[[Shape], Iterable[str]],
) -> None:
    """Runs the statements of the shape; if the lines have members that no column is of, anew with these.

    Most often there are none, and looking for them first would take as long as reading.
    """
    import duckdb

    try:
        for statement in statements(shape.with_extra(())):
            connection.execute(statement)
    except duckdb.InvalidInputException as error:
        if UNKNOWN not in str(error):
            raise
        names = f"SELECT DISTINCT unnest(json_keys(json)) FROM {lines_of(landed)}"
        extra = sorted({name for (name,) in connection.execute(names).fetchall()} - {*shape.known_members})
        for statement in statements(shape.with_extra(extra)):
            connection.execute(statement)


@contextmanager
def reading(what: str, files: Sequence[Path] = (), uris: Mapping[Path, str] | None = None) -> Iterator[None]:
    """Makes LakeErrors of DuckDB's, which name the one of the files that is to blame, if one is."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        for path in files:
            if not holds_json_lines(path):
                raise LakeError(
                    f"cannot read {(uris or {}).get(path, path)}: it is no gzip of JSON Lines, or its copy "
                    f"is none: remove {path} and run it again; move away what something else wrote"
                ) from error
        raise LakeError(
            f"cannot read {what}: DuckDB: {type(error).__name__}: "
            "--debug shows its own text, which may quote rows"
        ) from error


def holds_json_lines(path: Path) -> bool:
    try:
        lines = gzip.decompress(path.read_bytes()).splitlines()
        return all(isinstance(json.loads(line), dict) for line in lines if line)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError):
        return False


def lines_of(files: Sequence[Path | str]) -> str:
    """A relation with the lines of the files in its column json; a file can be a pattern."""
    if not files:
        return "(SELECT CAST(NULL AS JSON) AS json WHERE FALSE) AS no_lines"
    paths = ", ".join(literal(str(path)) for path in files)
    return f"read_ndjson_objects([{paths}], compression = 'gzip', hive_partitioning = false)"


def rows_of(files: Sequence[Path | str], stored: Sequence[StoredColumn]) -> str:
    """A relation with the rows of Parquet: our columns, and all of these, in a file or in none."""
    types = [
        f"CAST(NULL AS {DuckDB().stored_type(kind)}) AS {quoted(name)}"
        for name, kind in parquet_types(stored).items()
    ]
    empty = f"SELECT {', '.join(types)} WHERE FALSE"
    if not files:
        return f"({empty}) AS no_rows"
    paths = ", ".join(literal(str(path)) for path in files)
    read = f"read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"
    return f"({empty} UNION ALL BY NAME SELECT * FROM {read}) AS compacted"


def as_of(connection: DuckDBPyConnection, moment: str | datetime) -> DuckDBPyRelation:
    """The state by what was committed, loads published, at or before the moment: UTC where it has no zone."""
    if isinstance(moment, datetime):
        moment = moment.isoformat()
    return connection.sql(f"SELECT * FROM as_of({DuckDB().instant(moment)})")
