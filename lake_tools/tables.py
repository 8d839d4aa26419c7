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
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lake_tools.bucket import CONTROL, Lake, LakeObject, cache_failing, make_folder
from lake_tools.dialects import DuckDB, literal
from lake_tools.schemas import TableSchema
from lake_tools.settings import LakeError
from lake_tools.views import Relations, Shape, table_folder

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

KEPT_SECONDS = 7 * 24 * 3600
LANDED = ".jsonl.gz"
# What Kinesis has delivered again can stand in two objects.
ONE_EACH = """
DELETE FROM history
USING (
    SELECT cdc_shard_id AS shard, cdc_sequence_number AS number, min(rowid) AS first_row
    FROM history GROUP BY ALL HAVING count(*) > 1
) AS copies
WHERE cdc_shard_id = shard AND cdc_sequence_number = number AND history.rowid <> first_row"""


@contextmanager
def open_table(
    lake: Lake,
    schema: TableSchema,
    objects: Sequence[LakeObject] | None = None,
    *,
    control: Sequence[LakeObject] | None = None,
    memory_limit: str | None = None,
) -> Iterator[DuckDBPyConnection]:
    """A connection with the table's views. Raises LakeError.

    objects, control: of the table's folder and of control/, as Lake.objects lists them; None = those there
    are now. memory_limit: as DuckDB takes it, "2GB"; None = most of what the machine has.
    """
    objects = lake.objects(table_folder(schema)) if objects is None else objects
    control = lake.objects(CONTROL) if control is None else control
    landed = [one for one in objects if one.key.endswith(LANDED)]
    orders = [one for one in control if one.key.endswith(LANDED)]
    files, order_files = lake.fetch(landed), lake.fetch(orders)
    paths = [*files, *order_files]
    uris = {path: lake.uri(one.key) for path, one in zip(paths, [*landed, *orders], strict=True)}
    with connected(lake.cache, memory_limit) as connection:
        make_views(connection, schema, files, order_files, uris)
        yield connection


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
    connection: DuckDBPyConnection,
    schema: TableSchema,
    files: Sequence[Path],
    control: Sequence[Path],
    uris: Mapping[Path, str] | None = None,
) -> None:
    """Reads the files into a table, history; the rest are views. Raises LakeError without DuckDB's text.

    uris: what files are copies of, for errors.
    """
    shape = Shape(schema, DuckDB())
    with reading(f"{len(files)} objects of {schema}", files, uris or {}):
        connection.execute(f"CREATE TABLE history AS {shape.landed(lines(files))}")
        connection.execute(ONE_EACH)
    with reading(f"{len(control)} objects of {CONTROL}", control, uris or {}):
        connection.execute(f"CREATE TABLE drops AS {shape.drops(lines(control))}")
    with reading(f"the views of {schema}", (), {}):
        connection.execute(f"CREATE VIEW changes AS {shape.changes(Relations())}")
        if schema.primary_key:
            connection.execute(f"CREATE VIEW current AS {shape.current(Relations())}")
            connection.execute(f"CREATE MACRO as_of(moment) AS TABLE {shape.current(Relations(), 'moment')}")


@contextmanager
def reading(what: str, files: Sequence[Path], uris: Mapping[Path, str]) -> Iterator[None]:
    """Makes LakeErrors of DuckDB's, which name the file that is to blame, if one is."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        for path in files:
            if not holds_json_lines(path):
                raise LakeError(
                    f"cannot read {uris.get(path, path)}: it is no gzip of JSON Lines, or its copy is none: "
                    f"remove {path} and run it again; if something else wrote the object, move it away"
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


def lines(files: Sequence[Path]) -> str:
    """A relation with the lines of the files in its column json."""
    if not files:
        return "(SELECT CAST(NULL AS JSON) AS json WHERE FALSE) AS no_lines"
    paths = ", ".join(literal(str(path)) for path in files)
    return f"read_ndjson_objects([{paths}], compression = 'gzip', hive_partitioning = false)"


def as_of(connection: DuckDBPyConnection, moment: str | datetime) -> DuckDBPyRelation:
    """The state by what was committed, loads published, at or before the moment: UTC where it has no zone."""
    if isinstance(moment, datetime):
        moment = moment.isoformat()
    return connection.sql(f"SELECT * FROM as_of({DuckDB().instant(moment)})")
