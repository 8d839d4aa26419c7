"""A table's lines as they land, without a database; compacted, and its Parquet as three readers have it."""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars
import pyarrow
import pyarrow.dataset
import pyarrow.parquet
from conftest import BUCKET

from lake_tools import compact
from lake_tools.bucket import Lake
from lake_tools.dialects import ValueType, literal, quoted
from lake_tools.parquet_columns import StoredColumn
from lake_tools.schemas import LakeColumn, TableSchema, write
from lake_tools.tables import open_table

SHARD = "shardId-000000000000"
Rows = list[dict[str, Any]]
Texts = list[tuple[str | None, ...]]


def column(name: str, declared: str, dms: str = "STRING", *, is_lob: bool = False) -> LakeColumn:
    """One whose type is told by PostgreSQL's name of it."""
    return LakeColumn(name, declared, dms, True, is_lob)


class Landing:
    """The table public.t in a lake."""

    def __init__(self, lake: Lake, s3: Any) -> None:
        self.lake, self.s3 = lake, s3
        self.landed = 0  # rows
        self.schema = TableSchema("public", "t", (), (), "catalog", "2026-03-01T09:00:00Z")

    def publish(self, columns: Sequence[LakeColumn], key: Sequence[str] = ("id",)) -> None:
        self.schema = TableSchema(
            "public", "t", tuple(columns), tuple(key), "catalog", "2026-03-01T09:00:00Z"
        )
        write(self.lake, self.schema)

    def clear(self) -> None:
        """Removes all that landed, and what was made of it."""
        for one in self.s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
            self.s3.delete_object(Bucket=BUCKET, Key=one["Key"])

    def land(self, hour: int, *rows: str, operation: str = "insert") -> None:
        """An object of that hour; rows: members as the JSON has them, '"id":1,"x":5.50'."""
        lines = []
        for members in rows:
            self.landed += 1
            at = f"2026-03-01T{hour:02}:00:{self.landed % 60:02}.480010Z"
            position = f"00000001/{self.landed:08X}"
            lines.append(
                f'{{"cdc_operation":"{operation}","cdc_committed_at":"{at}","cdc_published_at":"{at}",'
                f'"cdc_transaction_id":{700 + self.landed},"cdc_transaction_record_id":1,'
                f'"cdc_stream_position":"{position}.3.{position}","cdc_lsn":{2**32 + self.landed},'
                f'"cdc_shard_id":"{SHARD}","cdc_sequence_number":"{self.landed:056}","cdc_before":null'
                f"{',' if members else ''}{members}}}\n"
            )
        folder = f"public/t/cdc_date=2026-03-01/cdc_hour={hour:02}"
        name = f"{SHARD}-{self.landed:056}.jsonl.gz"
        body = gzip.compress("".join(lines).encode())
        self.s3.put_object(Bucket=BUCKET, Key=f"changes/{folder}/{name}", Body=body)

    def land_again(self) -> None:
        """All that landed, in other objects."""
        for one in self.lake.objects("changes/"):
            key = one.key.replace(".jsonl.gz", ".redrive.jsonl.gz")
            self.s3.copy_object(Bucket=BUCKET, Key=key, CopySource={"Bucket": BUCKET, "Key": one.key})

    def compact(self, *, before: int | None = 24, rebuild: bool = False) -> compact.Outcome:
        """Of 2026-03-01 the hours before this one; None: all that there are."""
        options = argparse.Namespace(
            table="public.t",
            older_than=timedelta(),
            all=before is None,
            rebuild=rebuild,
            watch=False,
            json=True,
        )
        now = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=before or 0)
        (outcome,) = compact.compact(self.lake, options, {}, now)
        assert outcome.faults == []
        return outcome

    def file(self, hour: int) -> Path:
        """A copy of the hour's Parquet."""
        key = f"parquet/public/t/cdc_date=2026-03-01/cdc_hour={hour:02}/changes.parquet"
        (found,) = self.lake.objects(key)
        return self.lake.fetch([found])[0]

    def shown(self, view: str = "history", columns: Sequence[str] | None = None) -> Texts:
        """The view's rows as texts, in the order of the stream; None: all columns."""
        with open_table(self.lake, self.schema) as connection:
            return texts(connection, view, columns)

    def shown_by(self, *views: str) -> list[Texts]:
        with open_table(self.lake, self.schema) as connection:
            return [texts(connection, view) for view in views]


def texts(connection: Any, view: str, columns: Sequence[str] | None = None) -> Texts:
    if columns is None:
        columns = [name for name, *_ in connection.execute(f"DESCRIBE {view}").fetchall()]
    selected = ", ".join(f"CAST({quoted(name)} AS VARCHAR)" for name in columns)
    found: Texts = connection.execute(
        f"SELECT {selected} FROM {view} ORDER BY cdc_sequence_number"
    ).fetchall()
    return found


# Readers --------------------------------------------------------------------------------------------------


def stored_types(path: Path) -> dict[str, str]:
    """Of the columns, as pyarrow calls them: "int32", "decimal128(12, 2)"."""
    return {field.name: str(field.type) for field in pyarrow.parquet.read_schema(path)}


def read_by_duckdb(path: Path) -> Rows:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        file = f"read_parquet({literal(str(path))}, hive_partitioning = false)"
        described = connection.execute(f"DESCRIBE SELECT * FROM {file}").fetchall()
        plain = {
            "DATE": "date_diff('day', DATE '1970-01-01', {})",
            "TIMESTAMP WITH TIME ZONE": "epoch_us({})",
        }
        quoted = [(name, '"' + name.replace('"', '""') + '"', kind) for name, kind, *_ in described]
        selected = [plain.get(kind, "{}").format(sql) for _, sql, kind in quoted]
        found = connection.execute(f"SELECT {', '.join(selected)} FROM {file}").fetchall()
        return [dict(zip([name for name, *_ in quoted], row, strict=True)) for row in found]


def read_by_pyarrow(path: Path) -> Rows:
    return numbered(pyarrow.parquet.read_table(path, partitioning=None)).to_pylist()


def read_by_polars(path: Path) -> Rows:
    frame = polars.read_parquet(path, hive_partitioning=False)
    return frame.with_columns(polars.col(polars.Date, polars.Datetime).to_physical()).to_dicts()


# Days and microseconds since 1970 as numbers: Python's own types end at the years 1 and 9999.
READERS: dict[str, Callable[[Path], Rows]] = {
    "duckdb": read_by_duckdb,
    "pyarrow": read_by_pyarrow,
    "polars": read_by_polars,
}


def read_by_all(path: Path) -> Rows:
    """The file's rows, which all readers have alike."""
    found = {name: read(path) for name, read in READERS.items()}
    for name, rows in found.items():
        assert repr(rows) == repr(found["duckdb"]), f"{name} reads other values than DuckDB"
    return found["duckdb"]


# Files together -------------------------------------------------------------------------------------------

ARROW = {
    "int2": pyarrow.int16(),
    "int4": pyarrow.int32(),
    "int8": pyarrow.int64(),
    "float4": pyarrow.float32(),
    "float8": pyarrow.float64(),
    "bool": pyarrow.bool_(),
    "date": pyarrow.date32(),
    "timestamptz": pyarrow.timestamp("us", "UTC"),
    "bytea": pyarrow.binary(),
    "text": pyarrow.string(),
}


def arrow_type(kind: ValueType) -> pyarrow.DataType:
    return pyarrow.decimal128(kind.precision, kind.scale) if kind.kind == "decimal" else ARROW[kind.kind]


def unions(paths: Sequence[Path], stored: Sequence[StoredColumn]) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of these columns in all of the files, as each of the readers puts them together."""
    names = ["cdc_sequence_number", *(one.name for one in stored)]
    schema = pyarrow.schema(
        [(names[0], pyarrow.string()), *((one.name, arrow_type(one.kind)) for one in stored)]
    )
    files = [str(path) for path in paths]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        listed = ", ".join(map(literal, files))
        read = f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"
        by_duckdb = connection.sql(f"SELECT {', '.join(map(quoted, names))} FROM {read}").to_arrow_table()
    by_pyarrow = pyarrow.dataset.dataset(files, schema=schema, format="parquet").to_table()
    by_polars = polars.scan_parquet(
        files,
        schema=polars.DataFrame(schema.empty_table()).schema,
        missing_columns="insert",
        extra_columns="ignore",
        cast_options=polars.ScanCastOptions(integer_cast="upcast", float_cast="upcast"),
        hive_partitioning=False,
    ).collect()
    tables = {"duckdb": by_duckdb, "pyarrow": by_pyarrow, "polars": by_polars.to_arrow()}
    return {
        name: sorted(tuple(map(repr, row.values())) for row in numbered(table.cast(schema)).to_pylist())
        for name, table in tables.items()
    }


def numbered(table: pyarrow.Table) -> pyarrow.Table:
    """With days and microseconds as numbers."""
    for place, field in enumerate(table.schema):
        if pyarrow.types.is_temporal(field.type):
            number = pyarrow.int32() if pyarrow.types.is_date(field.type) else pyarrow.int64()
            table = table.set_column(place, field.name, table.column(place).cast(number))
    return table
